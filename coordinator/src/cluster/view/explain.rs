//! Why a trial is where it is: every decision about it, kept with its reason.
//!
//! Whoever decides says so here, in the step of the decision, so that both are durable together.

use trainyard_common::ids::{AttemptId, JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::SeriesDecision;
use crate::cluster::model::Decision;

/// Longest kept reason, bytes; the rest is cut off visibly.
const MAX_REASON_BYTES: usize = 1_024;

impl Machine {
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
            reason: shortened(reason),
            time_ms: self.now,
        });
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        let mut cuts = (0..=MAX_REASON_BYTES).rev();
        let whole = cuts.find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or(0));
        text.push_str(" [cut]");
    }
    text
}
