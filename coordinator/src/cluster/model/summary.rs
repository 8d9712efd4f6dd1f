//! What lists show of a job.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{JobId, TrialId};

use super::attempt::Metrics;
use super::job::JobState;
use super::trial::TrialCounts;

/// Part of what is stored of an archived job: fields are only added, with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What its search is computing while nothing of it can begin; of this process, and not stored.
    #[serde(skip)]
    pub working: String,
    /// Which searcher `auto` has chosen, and why.
    pub chosen: String,
    pub test_metrics: Metrics,
    pub checkpoint_url: String,
    /// When it left the records for an archive; 0 = it has not.
    #[serde(default)]
    pub archived_ms: u64,
}
