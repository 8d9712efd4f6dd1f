//! What a turn says: messages to workers, the reply, decisions with their reasons, entries of search logs.

use trainyard_common::ids::{AttemptId, JobId, TrialId, WorkerId};
use trainyard_common::text::within;

use crate::cluster::Machine;
use crate::cluster::api::{Effect, Reply, SeriesDecision, ToWorker};
use crate::cluster::model::{Decision, SearchEntry, SearchRecord, SessionId};

/// Longest kept reason, bytes; the rest is cut off visibly.
const MAX_REASON_BYTES: usize = 1_024;

impl Machine {
    pub(in crate::cluster) fn reply(&mut self, reply: Reply) {
        self.draft.step.reply = Some(reply);
    }

    pub(in crate::cluster) fn send(
        &mut self,
        worker: &WorkerId,
        session: SessionId,
        message: ToWorker,
    ) {
        self.draft.step.effects.push(Effect::Send {
            worker: worker.clone(),
            session,
            message,
        });
    }

    /// Appends a decision to the trial's series.
    pub(in crate::cluster) fn explain(
        &mut self,
        job: &JobId,
        trial: TrialId,
        what: Decision,
        reason: String,
    ) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let next = match found.live(trial) {
            Some(known) => Some(known.record.next_attempt),
            None => found.trial(trial).map(|known| known.record.next_attempt),
        };
        let newest = next.and_then(|next| next.checked_sub(1));
        self.draft.step.decisions.push(SeriesDecision {
            job: job.clone(),
            trial,
            attempt: newest.map(AttemptId),
            what,
            reason: within(reason, MAX_REASON_BYTES),
            time_ms: self.now,
        });
    }

    pub(in crate::cluster) fn log_search(&mut self, job: &JobId, entry: SearchEntry) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        self.draft.search.push(SearchRecord {
            job: job.clone(),
            index: found.next_entry,
            entry,
        });
        found.next_entry += 1;
    }
}
