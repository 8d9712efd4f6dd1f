//! Answers to queries, as plain data; the gRPC shell turns them into messages.

use trainyard_common::ids::{AttemptId, Generation, JobId, Term, TrialId, WorkerId};
use trainyard_common::spec::Params;

use super::types::{AttemptKind, CheckpointRef, JobState, Metrics, Outcome, RankPlace, TrialState};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrialCounts {
    pub pending: u32,
    pub running: u32,
    pub completed: u32,
    pub failed: u32,
    pub cancelled: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobSummary {
    pub job: JobId,
    pub name: String,
    pub workspace: String,
    pub priority: i32,
    pub state: JobState,
    pub submitted_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub trials: TrialCounts,
    pub trials_expected: Option<u32>,
    /// Metric of the first objective; empty without one.
    pub objective: String,
    pub maximize: bool,
    pub best_trial: Option<TrialId>,
    pub best_value: Option<f64>,
    pub error: String,
    /// Why the job waits, and other remarks.
    pub note: String,
    pub test_metrics: Metrics,
    pub checkpoint_url: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrialSummary {
    pub job: JobId,
    pub trial: TrialId,
    pub state: TrialState,
    pub params: Params,
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
    pub connected: bool,
    pub draining: bool,
    pub last_heartbeat_ms: u64,
    pub cpu_kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSummary {
    pub term: Term,
    pub slots_total: u32,
    pub slots_used: u32,
    pub jobs_active: u32,
}
