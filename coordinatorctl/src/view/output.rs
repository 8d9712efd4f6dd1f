//! The stable JSON shapes of `--output json`, as documented in `docs/cli.md`.
//!
//! Fields are only ever added. Times are Unix milliseconds; what is not known yet is `null`. Nothing
//! here knows of the wire: `convert` fills these types from it.

mod model;
pub(crate) mod stored;
pub(crate) mod verified;

use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use model::{Layer, ModelSummary, Tensor};
pub(crate) use stored::{
    Artifact, Artifacts, Checkpoint, Checkpoints, Downloaded, DownloadedArtifact,
};
pub(crate) use verified::{ReplayedStretch, TrialVerified, Verified};

/// Metrics by name, in the reporter's order. Not-a-number and infinity are `null`.
pub(crate) type Metrics = Map<String, Value>;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) name: String,
    pub(crate) workspace: String,
    pub(crate) priority: i32,
    /// `pending`, `running`, `evaluating`, `paused`, `completed`, `failed` or `cancelled`.
    pub(crate) state: &'static str,
    pub(crate) submitted_ms: Option<u64>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) trials_pending: u32,
    pub(crate) trials_running: u32,
    pub(crate) trials_paused: u32,
    pub(crate) trials_completed: u32,
    pub(crate) trials_failed: u32,
    pub(crate) trials_cancelled: u32,
    /// Trials that the search will have, where that is known.
    pub(crate) trials_expected: Option<u32>,
    /// The metric that decides which trial is best.
    pub(crate) objective: Option<String>,
    /// Whether larger is better.
    pub(crate) maximize: bool,
    pub(crate) best_trial: Option<u32>,
    pub(crate) best_value: Option<f64>,
    pub(crate) test_metrics: Metrics,
    pub(crate) checkpoint_url: Option<String>,
    pub(crate) error: Option<String>,
    /// Why it waits, and other remarks.
    pub(crate) note: Option<String>,
    /// Which searcher `auto` has chosen, and why.
    pub(crate) searcher: Option<String>,
    /// When it left the records for an archive.
    pub(crate) archived_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Trial {
    pub(crate) job_id: String,
    pub(crate) trial_id: u32,
    /// `pending`, `running`, `paused`, `completed`, `failed` or `cancelled`.
    pub(crate) state: &'static str,
    pub(crate) params: Value,
    pub(crate) epoch: u64,
    pub(crate) epochs_total: Option<u64>,
    pub(crate) step: u64,
    pub(crate) steps_total: Option<u64>,
    pub(crate) metrics: Metrics,
    pub(crate) best_value: Option<f64>,
    pub(crate) best_step: Option<u64>,
    pub(crate) restarts: u32,
    pub(crate) created_ms: Option<u64>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) best_checkpoint: Option<CheckpointRef>,
    pub(crate) latest_checkpoint: Option<CheckpointRef>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) error: Option<String>,
    /// What it waits for, and other remarks.
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Attempt {
    pub(crate) attempt: u32,
    pub(crate) generation: u64,
    pub(crate) ranks: Vec<Rank>,
    /// `null` while it runs; `completed`, `error`, `nan`, `node_lost`, `preempted` or `cancelled`.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) from_step: u64,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) error: Option<String>,
    /// Why it was placed where it was, and why it ended.
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rank {
    pub(crate) rank: u32,
    pub(crate) worker_id: String,
    pub(crate) slots: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CheckpointRef {
    /// Path of the manifest, below the job's `checkpoint_url`.
    pub(crate) manifest: String,
    pub(crate) step: u64,
    pub(crate) epoch: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
    pub(crate) metrics: Metrics,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) jobs: Vec<Job>,
}

/// `describe`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JobDetail {
    pub(crate) job: Job,
    pub(crate) trials: Vec<Trial>,
    /// The resolved spec.
    pub(crate) spec: Value,
}

/// `run` and `wait`: how a job ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JobResult {
    pub(crate) job: Job,
    pub(crate) trials: Vec<Trial>,
    pub(crate) best: Option<Best>,
}

/// `best`: the winner so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Best {
    pub(crate) job_id: String,
    pub(crate) objective: Option<String>,
    pub(crate) maximize: bool,
    pub(crate) value: Option<f64>,
    pub(crate) trial: Trial,
    pub(crate) test_metrics: Metrics,
    pub(crate) checkpoint_url: Option<String>,
    pub(crate) checkpoint: Option<CheckpointRef>,
}

/// `trial list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Trials {
    pub(crate) trials: Vec<Trial>,
}

/// `trial describe`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TrialDetail {
    pub(crate) trial: Trial,
    pub(crate) points: Vec<Point>,
}

/// `trial explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    pub(crate) job_id: String,
    pub(crate) trial_id: u32,
    /// Oldest first.
    pub(crate) decisions: Vec<Decision>,
    /// Why the whole job waits; may be empty.
    pub(crate) job_note: String,
}

/// `replay`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Replayed {
    pub(crate) job_id: String,
    /// Whether this version decides everything in the same way.
    pub(crate) same: bool,
    /// Where it does not.
    pub(crate) difference: Option<String>,
    pub(crate) suggestions: u32,
    pub(crate) results: u32,
    pub(crate) rungs: u32,
    pub(crate) promotions: u32,
    pub(crate) extensions: u32,
    /// In order; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<Vec<Value>>,
}

/// One decision about a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Decision {
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
    /// Such as `placed`, `promoted` or `lost`.
    pub(crate) what: String,
    /// The newest attempt at that time.
    pub(crate) attempt: Option<u32>,
    pub(crate) reason: String,
}

/// One point of a learning curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Point {
    pub(crate) step: u64,
    pub(crate) epoch: u64,
    pub(crate) time_ms: u64,
    pub(crate) metrics: Metrics,
}

/// `watch`: one line for each change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Job(Box<Job>),
    Trial(Box<Trial>),
}

/// `logs`: one line for each line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LogLine {
    pub(crate) trial_id: u32,
    pub(crate) attempt: u32,
    pub(crate) rank: u32,
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
    pub(crate) level: String,
    pub(crate) text: String,
}

/// `worker list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Workers {
    pub(crate) workers: Vec<Worker>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Worker {
    pub(crate) worker_id: String,
    pub(crate) host: String,
    pub(crate) version: String,
    pub(crate) devices: Vec<String>,
    pub(crate) slots_used: u32,
    pub(crate) connected: bool,
    pub(crate) draining: bool,
    pub(crate) last_heartbeat_ms: Option<u64>,
    pub(crate) cpu_kind: String,
    pub(crate) state: &'static str,
    pub(crate) since_ms: Option<u64>,
    pub(crate) note: String,
    /// `None`: the coordinator does not know.
    pub(crate) programs: Option<bool>,
}

/// `workspace list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Workspaces {
    pub(crate) workspaces: Vec<Workspace>,
}

/// `workspace show`, `set` and `remove`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Workspace {
    pub(crate) name: String,
    pub(crate) weight: f64,
    pub(crate) max_cpu_slots: Option<u32>,
    pub(crate) max_cuda_slots: Option<u32>,
    pub(crate) cpu_slots_used: u32,
    pub(crate) cuda_slots_used: u32,
    pub(crate) share: f64,
    pub(crate) jobs_active: u32,
    pub(crate) jobs_waiting: u32,
}

/// `extend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Extended {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
    pub(crate) trials_expected: Option<u32>,
}

/// `worker drain` and `worker undrain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Drained {
    pub(crate) worker_id: String,
    pub(crate) draining: bool,
    pub(crate) slots_used: u32,
}

/// `worker forget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Forgotten {
    pub(crate) worker_id: String,
    pub(crate) slots_used: u32,
}

/// `submit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Submitted {
    pub(crate) job_id: String,
    pub(crate) warnings: Vec<String>,
}

/// `cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cancelled {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
}

/// `archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Archived {
    pub(crate) job_id: String,
    /// False while the archive is being written.
    pub(crate) archived: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Deleted {
    pub(crate) job_id: String,
    /// Whether its checkpoints go, too.
    pub(crate) checkpoints: bool,
    /// Where they stay otherwise.
    pub(crate) checkpoint_url: Option<String>,
}

/// `pause`, `resume`, `trial pause` and `trial resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
    /// `null` where the whole job was asked for.
    pub(crate) trial_id: Option<u32>,
    /// A trial is `running` until it has made its checkpoint.
    pub(crate) trial_state: Option<&'static str>,
}

/// `validate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Validation {
    pub(crate) valid: bool,
    pub(crate) errors: Vec<SpecProblem>,
    pub(crate) warnings: Vec<String>,
    /// Of all configurations those that meet the constraints, about; null without constraints or where none was found.
    pub(crate) allowed_share: Option<f64>,
    /// The folder that goes along with the job; null without one.
    pub(crate) ships: Option<Ships>,
}

/// What a job's folder has, unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ships {
    /// Files, links and empty folders.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SpecProblem {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// `preview`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Preview {
    pub(crate) configurations: Vec<Configuration>,
    /// Trials that the search will have, where that is known.
    pub(crate) trials_expected: Option<u32>,
    /// Of all configurations those that meet the constraints, about; null without constraints or where none was found.
    pub(crate) allowed_share: Option<f64>,
}

/// `insight`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Insight {
    pub(crate) job_id: String,
    pub(crate) objectives: Vec<String>,
    /// Trials with a value of the first objective, of which everything below is.
    pub(crate) trials: usize,
    /// The most important first; empty with too few trials.
    pub(crate) importance: Vec<Share>,
    pub(crate) interactions: Vec<Pair>,
    /// Of the hyperparameters that were asked for.
    pub(crate) dependence: Vec<Dependence>,
    /// Trials that were better than all before.
    pub(crate) history: Vec<Volume>,
    /// With several objectives: trials that no other is better than in all of them, and their values.
    pub(crate) front: Vec<(u32, Vec<f64>)>,
    pub(crate) hypervolume: Vec<Volume>,
    pub(crate) reference: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Share {
    pub(crate) parameter: String,
    /// Of the objective's variance.
    pub(crate) share: f64,
    pub(crate) spread: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Pair {
    pub(crate) parameters: [String; 2],
    pub(crate) share: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Dependence {
    pub(crate) parameter: String,
    pub(crate) values: Vec<Value>,
    /// The objective there, the other hyperparameters averaged out.
    pub(crate) mean: Vec<f64>,
    pub(crate) spread: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Volume {
    pub(crate) trial_id: u32,
    pub(crate) value: f64,
}

/// `preview --simulate`. Times are of the simulated cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SearchForecast {
    pub(crate) trials: u32,
    /// Trained in all, and what the same trials would take if none was stopped.
    pub(crate) epochs: u64,
    pub(crate) epochs_without_stopping: u64,
    pub(crate) slot_seconds: f64,
    pub(crate) finish_seconds: f64,
    /// Share of the workers' time that was used.
    pub(crate) busy: f64,
    pub(crate) rungs: Vec<ForecastRung>,
    /// Each value that was better than all before.
    pub(crate) best: Vec<Improvement>,
    /// The search has no end; it was cut off.
    pub(crate) cut: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ForecastRung {
    pub(crate) epochs: u64,
    pub(crate) reached: u32,
    /// Trials that went no further.
    pub(crate) ended: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Improvement {
    pub(crate) seconds: f64,
    pub(crate) value: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Configuration {
    pub(crate) trial_id: u32,
    pub(crate) params: Value,
}

/// `completion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Completion {
    pub(crate) shell: String,
    pub(crate) script: String,
}
