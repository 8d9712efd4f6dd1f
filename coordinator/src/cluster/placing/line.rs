//! A job's note of why it waits, since when it does, and its leaving the line.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::parts::Kept;
use crate::placement::queue::{Ask, device_name};

impl Machine {
    /// Since when the job waits; stored, so that a new leader knows its place.
    pub(in crate::cluster) fn set_waiting_since(&mut self, job: &JobId, since: Option<u64>) {
        let bounded = since.is_some() && self.is_bounded(job);
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let number = found.record.number;
        let before = std::mem::replace(&mut found.record.waiting_since_ms, since);
        if before != since {
            self.draft.jobs.insert(job.clone());
        }
        self.waits.set((number, job), before, since, bounded);
        if let Some(since) = since.filter(|_| bounded) {
            let due = since.saturating_add(self.config.gang_wait_ms);
            // Who is due already is looked at in this turn or whenever something changes.
            if due > self.now {
                self.wake_at(due);
            }
        }
    }

    /// Says why a job waits, unless some of it runs.
    pub(in crate::cluster) fn note(&mut self, job: &JobId, note: &str) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let note = if found.running.is_empty() { note } else { "" };
        if found.record.note != note {
            note.clone_into(&mut found.record.note);
            self.draft.jobs.insert(job.clone());
        }
    }

    pub(in crate::cluster) fn waits_for_slots(&mut self, job: &JobId, ask: &Ask) {
        let (ranks, device) = (ask.ranks, device_name(ask.device));
        let kept = self.slots.kept(job).map(Kept::told);
        let kept = kept.unwrap_or_default();
        self.note(job, &format!("waits for {ranks} free {device} slots{kept}"));
    }
}
