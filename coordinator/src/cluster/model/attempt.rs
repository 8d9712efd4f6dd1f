//! An attempt and its ranks: names, outcomes, what is persisted.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId, WorkerId};
use trainyard_common::spec::FailureKind;

use super::reported::Repeated;

/// Named values, in the reporter's order.
pub type Metrics = Vec<(String, f64)>;

/// How an attempt, or one rank of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Error,
    Nan,
    /// The configuration cannot be: shapes that do not fit, or a program that says so.
    #[serde(alias = "invalid")]
    Infeasible,
    /// It needed more memory than there was.
    OutOfMemory,
    /// Its worker lives, but it made no progress for too long. Never told by a worker.
    Hung,
    /// The data is missing or wrong: what another trial on the same data would meet as well.
    DataInvalid,
    NodeLost,
    Preempted,
    /// It trained as far as it was told to.
    Paused,
    Cancelled,
    /// Its trial was ended at a checkpoint: it had had its chance. Never told by a worker, and never stored.
    Stopped,
}

impl Outcome {
    /// Whether it has done what it was to do.
    pub fn done(self) -> bool {
        matches!(self, Self::Completed | Self::Paused)
    }

    /// The kind of failure that it is, if it is one; of the data, too, which have rules of their own.
    pub fn failure(self) -> Option<FailureKind> {
        Some(match self {
            Self::Completed | Self::Paused | Self::Cancelled | Self::Stopped => return None,
            Self::Error | Self::DataInvalid => FailureKind::Error,
            Self::Nan => FailureKind::Nan,
            Self::Infeasible => FailureKind::Infeasible,
            Self::OutOfMemory => FailureKind::OutOfMemory,
            Self::Hung => FailureKind::Hung,
            Self::NodeLost => FailureKind::NodeLost,
            Self::Preempted => FailureKind::Preempted,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    Train,
    /// Judges the winner's best checkpoint on the test part.
    Evaluate,
}

/// Why an attempt is asked for its slots, and so what becomes of its trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vacate {
    /// The trial is paused until somebody resumes it.
    Pause,
    /// Something else needs the slots more: the trial waits for others.
    Preempt,
    /// The worker leaves: the trial goes on elsewhere.
    Drain,
    /// The trial has had its chance: it ends, as completed.
    Stop,
}

/// Where one rank runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankPlace {
    pub rank: u32,
    pub worker: WorkerId,
    pub slots: Vec<u32>,
    pub collective_address: String,
}

/// Names one attempt at one membership.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub generation: Generation,
}

/// One rank of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankRef {
    pub at: AttemptRef,
    pub rank: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub generation: Generation,
    pub kind: AttemptKind,
    pub ranks: Vec<RankRecord>,
    /// None = lives.
    pub outcome: Option<Outcome>,
    pub error: String,
    /// Why it was placed there, and why it ended.
    pub reason: String,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub from_step: u64,
    /// Latest progress.
    pub epoch: u64,
    pub step: u64,
    #[serde(with = "trainyard_common::checkpoint::metric_values")]
    pub metrics: Metrics,
    /// What it told once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// Complete epochs after which it ends; `None`: at the end of training.
    #[serde(default)]
    pub until_epoch: Option<u64>,
    /// Its slots were asked back.
    #[serde(default)]
    pub vacate: Option<Vacate>,
}

impl AttemptRecord {
    /// How it ended, for people: a worker says `Preempted` of whatever left its slots at a checkpoint.
    pub(in crate::cluster) fn shown_outcome(&self) -> Option<Outcome> {
        match (self.outcome, self.vacate) {
            (Some(Outcome::Preempted), Some(Vacate::Pause)) => Some(Outcome::Paused),
            (Some(Outcome::Preempted), Some(Vacate::Stop)) => Some(Outcome::Stopped),
            (outcome, _) => outcome,
        }
    }

    /// Its name.
    pub(in crate::cluster) fn at(&self) -> AttemptRef {
        AttemptRef {
            job: self.job.clone(),
            trial: self.trial,
            attempt: self.attempt,
            generation: self.generation,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankRecord {
    pub place: RankPlace,
    /// Sequence of the newest report that was counted.
    pub applied: u64,
    /// Number of the newest log line that was stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub logged: u64,
    /// What the rank itself reported; or that it was lost.
    pub ended: Option<Outcome>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
