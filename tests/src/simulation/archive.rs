//! Where the scale run keeps records. Neither their memory nor the time of restoring from them counts as
//! the machine's.

use std::collections::BTreeMap;

use trainyard_common::ids::Term;
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::MachineConfig;
use trainyard_coordinator::cluster::model::{Key, Record};

use super::clock::cpu_ns;
use super::heap::apart;

/// What a restored machine is, and what it took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restored {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Processor time, with decoding.
    pub(super) ms: f64,
    pub(super) trials_ended: u64,
}

/// The newest version of every record, encoded.
#[derive(Default)]
pub(super) struct Archive {
    records: BTreeMap<String, Vec<u8>>,
    /// Processor time of encoding.
    pub(super) encode_ns: u64,
}

impl Archive {
    /// # Errors
    /// The record has no stored form.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), String> {
        apart(|| {
            let began = cpu_ns();
            let written = record.encode();
            self.encode_ns += cpu_ns() - began;
            let written = written.map_err(|error| error.to_string())?;
            self.records.insert(record.key().0, written);
            Ok(())
        })
    }

    pub(super) fn remove(&mut self, key: &Key) {
        apart(|| self.records.remove(&key.0));
    }

    /// Restores a machine from what was written, and drops it.
    ///
    /// # Errors
    /// It cannot be.
    pub(super) fn restore(&self, config: &MachineConfig, now_ms: u64) -> Result<Restored, String> {
        apart(|| self.restored(config.clone(), now_ms))
    }

    fn restored(&self, config: MachineConfig, now_ms: u64) -> Result<Restored, String> {
        let began = cpu_ns();
        let mut corrupt = None;
        let records = self.records.iter().map_while(|(key, bytes)| {
            let record = Record::decode(key, bytes);
            record.map_err(|error| corrupt = Some(error)).ok()
        });
        let machine = Machine::restore(Term(2), config, now_ms, records);
        let ms = (cpu_ns() - began) as f64 / 1e6;
        if let Some(error) = corrupt {
            return Err(error.to_string());
        }
        let machine = machine.map_err(|error| error.to_string())?;
        let jobs = machine.jobs();
        let ended = jobs.iter().map(|job| {
            let counts = job.trials;
            u64::from(counts.completed + counts.failed + counts.cancelled)
        });
        let sizes = self.records.iter();
        Ok(Restored {
            records: self.records.len(),
            bytes: sizes.map(|(key, value)| key.len() + value.len()).sum(),
            ms,
            trials_ended: ended.sum(),
        })
    }
}
