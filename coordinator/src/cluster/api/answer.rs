//! What people are told: replies to what they ask for, and summaries.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{AttemptId, Generation, JobId, Term, TrialId, WorkerId};
use trainyard_common::spec::Params;

use crate::cluster::model::{AttemptKind, JobState, Metrics, Outcome, RankPlace, TrialState};

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Submitted {
        job: JobId,
        warnings: Vec<String>,
    },
    Cancelled {
        job: JobId,
        state: JobState,
    },
    /// After a pause or a resume; `trial`: the state of the one that was named.
    Held {
        job: JobId,
        state: JobState,
        trial: Option<TrialState>,
    },
    Extended {
        job: JobId,
        state: JobState,
        trials_expected: Option<u32>,
    },
    /// It is gone, or will be once nothing of it holds slots.
    Deleted {
        job: JobId,
    },
    Archiving {
        job: JobId,
        /// The archive exists.
        archived: bool,
    },
    Drained {
        worker: WorkerId,
        draining: bool,
        /// Ranks that still hold slots there.
        attempts: u32,
    },
    Forgotten {
        worker: WorkerId,
        /// Ranks that held slots there.
        attempts: u32,
    },
    Workspace(WorkspaceSummary),
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrialSummary {
    pub job: JobId,
    pub trial: TrialId,
    pub state: TrialState,
    pub params: Params,
    /// What the searcher proposed, where a scheduler has changed it since.
    pub suggested: Option<Params>,
    pub epoch: u64,
    pub epochs_total: u64,
    pub step: u64,
    pub steps_total: u64,
    pub metrics: Metrics,
    pub best_value: Option<f64>,
    pub best_step: u64,
    pub restarts: u32,
    pub error: String,
    /// Why it is where it is.
    pub reason: String,
    pub created_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub best_checkpoint: Option<CheckpointRef>,
    pub latest_checkpoint: Option<CheckpointRef>,
    /// All that are known to exist, oldest first.
    pub checkpoints: Vec<CheckpointRef>,
    pub attempts: Vec<AttemptSummary>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AttemptSummary {
    pub attempt: AttemptId,
    pub generation: Generation,
    pub kind: AttemptKind,
    pub ranks: Vec<RankPlace>,
    pub outcome: Option<Outcome>,
    pub error: String,
    pub reason: String,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub from_step: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSummary {
    pub worker: WorkerId,
    pub host: String,
    pub version: String,
    pub devices: Vec<String>,
    pub slots_used: u32,
    /// Free ones that are kept for a named job.
    pub slots_kept: u32,
    pub connected: bool,
    pub draining: bool,
    pub state: WorkerState,
    /// Since when it is draining, or when it was last heard of.
    pub since_ms: u64,
    /// Why it is in that state; what runs slowly there.
    pub note: String,
    pub last_heartbeat_ms: u64,
    pub cpu_kind: String,
    /// Whether it runs programs.
    pub programs: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSummary {
    pub term: Term,
    pub slots_total: u32,
    pub slots_used: u32,
    pub jobs_active: u32,
}

/// What a workspace may use, and what it uses.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkspaceSummary {
    pub workspace: String,
    pub weight: f64,
    pub max_cpu_slots: Option<u32>,
    pub max_cuda_slots: Option<u32>,
    pub cpu_slots_used: u32,
    pub cuda_slots_used: u32,
    /// The larger of the used fractions of the cluster's cpu and cuda slots.
    pub share: f64,
    pub jobs_active: u32,
    /// Jobs that want slots.
    pub jobs_waiting: u32,
}

/// What a worker is, for those who look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    Ready,
    /// Gets nothing new; what it runs is moved away.
    Draining,
    /// Gets nothing new and runs nothing.
    Drained,
    /// Its connection is gone; its attempts are its own until its lease has run out.
    Silent,
    /// Connected, but late with heartbeats or with the end of a hung attempt: gets nothing new.
    Suspect,
    /// Its lease has run out, or its host said that it is gone.
    Lost,
}
