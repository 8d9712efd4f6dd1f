//! What one turn of a driver wants written, gathered from the machine's steps.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, TrialId};
use trainyard_coordinator::cluster::api::{SeriesLog, SeriesPoint, Step};
use trainyard_coordinator::cluster::model::{Decision, Key, Record};

/// What one turn of a driver wants written; of several versions of a record the last one counts.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: BTreeMap<Key, Record>,
    /// What goes, after what it was written as last.
    pub(super) removed: BTreeSet<Key>,
    pub(super) points: Vec<SeriesPoint>,
    pub(super) logs: Vec<SeriesLog>,
    /// Attempts that were asked to leave for others.
    pub(super) preempted: u64,
    /// Trials about which a decision with its reason is appended.
    pub(super) explained: BTreeSet<(JobId, TrialId)>,
    /// The decisions in words.
    told: Vec<String>,
}

impl Batch {
    /// Takes what `step` wants written out of it; `in_words`: somebody reads along.
    ///
    /// # Errors
    /// A key twice in one step.
    pub(super) fn take(&mut self, step: &mut Step, in_words: bool) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        for record in step.records.drain(..) {
            let key = record.key();
            if !keys.insert(key.clone()) {
                return Err(format!("{} is written twice in one step", key.0));
            }
            self.removed.remove(&key);
            self.records.insert(key, record);
        }
        self.removed.extend(step.removed.drain(..));
        self.points.append(&mut step.points);
        self.logs.append(&mut step.logs);
        for decision in step.decisions.drain(..) {
            if decision.reason.is_empty() {
                return Err(format!("a decision without a reason: {decision:?}"));
            }
            if in_words {
                let (job, trial) = (&decision.job, decision.trial);
                let (what, reason) = (decision.what, &decision.reason);
                self.told.push(format!("{job}/{trial} {what:?}: {reason}"));
            }
            self.preempted += u64::from(decision.what == Decision::Preempted);
            self.explained.insert((decision.job, decision.trial));
        }
        Ok(())
    }

    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    pub(super) fn is_empty(&self) -> bool {
        let series = self.points.is_empty() && self.logs.is_empty();
        series && self.records.is_empty() && self.removed.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() + self.removed.len() + self.points.len() + self.logs.len()
    }
}
