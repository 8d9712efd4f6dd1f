//! What the model store tells: its records, encoded and decoded as a new leader reads them, or one by one.

use trainyard_common::ids::{AttemptId, JobId, TrialId};
use trainyard_coordinator::cluster::model::{
    AttemptRecord, AttemptRef, Key, RankRef, Record, TrialRecord,
};

use super::store::{ModelStore, trial_key};

/// No record may be larger: etcd holds them.
const MAX_RECORD_BYTES: usize = 64 * 1024;

impl ModelStore {
    /// All records, as a new leader reads them.
    ///
    /// # Errors
    /// One has no stored form, or comes back as something else, or is too large.
    pub(super) fn load(&self) -> Result<Vec<Record>, String> {
        let mut records = Vec::with_capacity(self.records.len());
        for (key, record) in &self.records {
            let bytes = record.encode().map_err(|error| error.to_string())?;
            if bytes.len() > MAX_RECORD_BYTES {
                return Err(format!("{} has {} bytes", key.0, bytes.len()));
            }
            let read = Record::decode(&key.0, &bytes).map_err(|error| error.to_string())?;
            if read != *record {
                return Err(format!("{record:?} comes back as {read:?}"));
            }
            records.push(read);
        }
        Ok(records)
    }

    /// All records as they are.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(super) fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn trial(&self, job: &JobId, trial: TrialId) -> Option<&TrialRecord> {
        match self.records.get(&trial_key(job, trial))? {
            Record::Trial(trial) => Some(trial),
            _ => None,
        }
    }

    pub(super) fn attempt(&self, at: &AttemptRef) -> Option<&AttemptRecord> {
        let AttemptId(attempt) = at.attempt;
        let key = Key(format!(
            "attempt/{}/{:010}/{attempt:010}",
            at.job, at.trial.0
        ));
        match self.records.get(&key)? {
            Record::Attempt(known) => (known.generation == at.generation).then_some(known),
            _ => None,
        }
    }

    /// Whether any attempt that the records know as living is left.
    pub(super) fn living(&self) -> Option<&RankRef> {
        self.slots.values().next()
    }
}
