//! What workers and the coordinator tell each other.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::spec::TrialSpec;

use crate::cluster::model::{AttemptKind, AttemptRef, Metrics, Outcome, RankPlace, RankRef};

/// One thing that happened to an attempt, as told by a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Grows with each report of the worker's process; gaps are legal.
    pub sequence: u64,
    pub rank: RankRef,
    /// The worker's clock, for display only.
    pub time_ms: u64,
    pub body: ReportBody,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ReportBody {
    Started {
        from_step: u64,
        steps_total: u64,
        epochs_total: u64,
        parameters: u64,
    },
    /// Rank 0 only.
    Progress(Point),
    /// Rank 0 only, once the manifest is durable.
    Checkpoint(CheckpointRef),
    /// A rank's last report. `Outcome::NodeLost` from a worker means that it lost a peer.
    Ended {
        outcome: Outcome,
        error: String,
        step: u64,
        test_metrics: Metrics,
    },
    /// Manifests that the worker has deleted by the keep rule. Believed whatever the generation:
    /// what is deleted is gone.
    Dropped { manifests: Vec<String> },
    /// Something that is not within the limits: it counts as told, and its attempt cannot go on.
    Refused { reason: String },
}

/// One point of a learning curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub step: u64,
    /// Complete epochs.
    pub epoch: u64,
    pub metrics: Metrics,
    /// Counts for the objective.
    pub end_of_epoch: bool,
    /// The program counts its epochs from 0; `epoch` is shifted already.
    pub epochs_from_zero: bool,
    pub time_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogText {
    pub time_ms: u64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    pub text: String,
}

#[derive(Debug, Clone)]
pub enum ToWorker {
    /// Always the first message of a session.
    Registered {
        heartbeat_ms: u64,
        lease_ms: u64,
        abandon: Vec<RankRef>,
    },
    /// Every report of this worker up to this sequence is durable, or was recognised as stale.
    Acknowledged {
        sequence: u64,
    },
    /// As `Acknowledged`, of every log line up to this number.
    LinesStored {
        through: u64,
    },
    Assign(Box<Assignment>),
    Stop {
        at: AttemptRef,
        /// Make a checkpoint first.
        checkpoint: bool,
        /// What has led to it, for people; may be empty.
        why: String,
    },
}

/// One rank's part of an attempt. A slot may still be busy with an attempt that was abandoned or
/// stopped: the worker waits for it.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub at: AttemptRef,
    pub kind: AttemptKind,
    pub rank: u32,
    pub ranks: Vec<RankPlace>,
    pub spec: std::sync::Arc<TrialSpec>,
    pub resume_from: Option<CheckpointRef>,
    pub checkpoints: Vec<CheckpointRef>,
    pub rendezvous_token: String,
    /// Complete epochs after which the attempt ends with a checkpoint.
    pub until_epoch: Option<u64>,
    /// `resume_from` is another trial's.
    pub copies: bool,
    /// The newest epoch and step that have counted for the trial; 0: none yet.
    pub reported_epoch: u64,
    pub reported_step: u64,
    /// An earlier attempt's program counted its epochs from 0.
    pub epochs_from_zero: bool,
}
