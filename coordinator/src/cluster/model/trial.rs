//! A trial: what is persisted of it, what is decided about it, and its compact form once it has ended.

use serde::{Deserialize, Serialize};
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{AttemptId, JobId, TrialId};
use trainyard_common::spec::{FailureKind, Params};

use super::attempt::{AttemptKind, AttemptRecord};
use super::reported::Reported;
use crate::schedule::logical::Stint;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    Pending,
    Running,
    /// Holds no slot and goes on from its checkpoint once it is resumed.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl TrialState {
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrialCounts {
    pub pending: u32,
    pub running: u32,
    pub paused: u32,
    pub completed: u32,
    pub failed: u32,
    pub cancelled: u32,
}

impl TrialCounts {
    /// How many there are in each state.
    pub(in crate::cluster) fn of(states: impl Iterator<Item = TrialState>) -> Self {
        let mut counts = Self::default();
        for state in states {
            *counts.count_mut(state) += 1;
        }
        counts
    }

    pub(in crate::cluster) fn count_mut(&mut self, state: TrialState) -> &mut u32 {
        match state {
            TrialState::Pending => &mut self.pending,
            TrialState::Running => &mut self.running,
            TrialState::Paused => &mut self.paused,
            TrialState::Completed => &mut self.completed,
            TrialState::Failed => &mut self.failed,
            TrialState::Cancelled => &mut self.cancelled,
        }
    }

    pub fn total(&self) -> u32 {
        let open = self.pending + self.running + self.paused;
        open + self.completed + self.failed + self.cancelled
    }
}

/// What was decided about a trial; the reason is text beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Suggested,
    Placed,
    Paused,
    Resumed,
    Promoted,
    Preempted,
    Drained,
    /// Its worker, or a rank of it, is gone.
    Lost,
    /// Its worker lives, but it made no progress.
    Hung,
    /// It failed and is tried again.
    Retried,
    Stopped,
    Completed,
    Failed,
    Cancelled,
    /// It has won and was judged on the test part, or could not be.
    Judged,
    /// It has waited for long: slots are kept for it.
    Reserved,
    /// What it reported once more does not count, and why.
    Repeated,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    pub job: JobId,
    pub trial: TrialId,
    pub state: TrialState,
    pub params: Params,
    pub epochs_total: u64,
    pub steps_total: u64,
    pub parameters: u64,
    /// Best objective value over all ends of epochs, and its step.
    pub best: Option<(f64, u64)>,
    /// Values of all objectives at the end of the newest epoch that had all, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// Newest point that was appended: step, and whether it ended an epoch. Of records that were written before
    /// `reported` was kept; never written any more.
    #[serde(default, skip_serializing)]
    pub newest_point: Option<(u64, bool)>,
    /// The newest point that counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
    /// Its program counts its epochs from 0; its reports are shifted by one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub epochs_from_zero: bool,
    /// Failures that count against `max_restarts`.
    pub restarts: u32,
    /// Failures in a row that are not counted as restarts, without a new checkpoint in between.
    pub losses: u32,
    /// Why it failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// A person has paused it.
    #[serde(default)]
    pub held: bool,
    /// It was told to end, which has counted already.
    #[serde(default)]
    pub stopped: bool,
    /// How often it left its slots to work of a higher priority.
    #[serde(default)]
    pub preempted: u32,
    /// On a logical worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stint: Option<Stint>,
    /// It is tried again after its failure had counted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
    /// Not placed before; 0 = at once.
    pub retry_at_ms: u64,
    pub error: String,
    /// Why it is where it is.
    pub reason: String,
    pub created_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    /// Known checkpoints in the order in which they were made.
    pub checkpoints: Vec<CheckpointRef>,
    /// Another trial's checkpoint, from which it goes on until it has a newer one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<CheckpointRef>,
    /// Its value where it is to wait, and the epoch. It counts once the checkpoint is there that others may
    /// copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<(u64, f64)>,
    /// What the searcher proposed, where a scheduler has changed it since; and how often it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<Params>,
    #[serde(default)]
    pub changes: u32,
    pub next_attempt: u32,
}

impl TrialRecord {
    /// What the searcher proposed.
    pub fn suggested_params(&self) -> &Params {
        self.suggested.as_ref().unwrap_or(&self.params)
    }

    /// The checkpoint from which it goes on.
    pub fn goes_on_from(&self) -> Option<&CheckpointRef> {
        self.copies.as_ref().or(self.checkpoints.last())
    }
}

/// Attempts of one trial that are held in memory; older ones are in the store alone.
const MAX_ATTEMPTS_HELD: usize = 16;

/// A trial; an ended one is kept as a few hundred bytes of JSON.
pub(in crate::cluster) enum TrialSlot {
    Live(Box<Trial>),
    Ended {
        state: TrialState,
        best: Option<(f64, u64)>,
        /// Attempts that there ever were.
        attempts: u32,
        json: Box<[u8]>,
    },
}

impl TrialSlot {
    pub(in crate::cluster) fn state(&self) -> TrialState {
        match self {
            Self::Live(trial) => trial.record.state,
            Self::Ended { state, .. } => *state,
        }
    }

    pub(in crate::cluster) fn attempts(&self) -> u32 {
        match self {
            Self::Live(trial) => trial.record.next_attempt,
            Self::Ended { attempts, .. } => *attempts,
        }
    }

    pub(in crate::cluster) fn best(&self) -> Option<(f64, u64)> {
        match self {
            Self::Live(trial) => trial.record.best,
            Self::Ended { best, .. } => *best,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cluster) struct Trial {
    pub(in crate::cluster) record: TrialRecord,
    /// The newest, oldest first.
    pub(in crate::cluster) attempts: Vec<AttemptRecord>,
}

impl Trial {
    pub(in crate::cluster) fn attempt_mut(
        &mut self,
        attempt: AttemptId,
    ) -> Option<&mut AttemptRecord> {
        let mut newest_first = self.attempts.iter_mut().rev();
        newest_first.find(|known| known.attempt == attempt)
    }

    pub(in crate::cluster) fn attempt(&self, attempt: AttemptId) -> Option<&AttemptRecord> {
        let mut newest_first = self.attempts.iter().rev();
        newest_first.find(|known| known.attempt == attempt)
    }

    /// What a record of an earlier version tells of the newest point, completed by the attempts that there were.
    pub(in crate::cluster) fn complete_reported(&mut self) {
        let Some((step, end_of_epoch)) = self.record.newest_point.take() else {
            return;
        };
        let attempts = self.attempts.iter();
        let training = attempts.filter(|attempt| attempt.kind == AttemptKind::Train);
        // Who was the furthest told it; steps never went back then.
        let teller = training.max_by_key(|attempt| (attempt.epoch, attempt.attempt));
        let reported = Reported {
            epoch: teller.map_or(0, |attempt| attempt.epoch),
            step,
            end_of_epoch,
            attempt: teller.map_or(AttemptId(0), |attempt| attempt.attempt),
            whole: self.record.best.is_some(),
        };
        self.record.reported.get_or_insert(reported);
    }

    /// Forgets the oldest ended attempts beyond the bound.
    pub(in crate::cluster) fn trim(&mut self) {
        while self.attempts.len() > MAX_ATTEMPTS_HELD && self.attempts[0].outcome.is_some() {
            self.attempts.remove(0);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(said: &bool) -> bool {
    !said
}
