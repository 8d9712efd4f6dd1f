//! The ordered log of a job's search, from which searcher and scheduler are restored.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::Params;

use super::told::Thought;
use crate::schedule::Scheduler;
use crate::search::Observation;

/// A search that goes on where its log ends.
#[derive(Debug, Clone)]
pub struct Awake {
    pub(in crate::cluster) thought: Thought,
    pub(in crate::cluster) scheduler: Scheduler,
    /// Entries of the log.
    pub(in crate::cluster) entries: u32,
}

/// One entry of a job's ordered search log. Replaying all of them restores the searcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    pub job: JobId,
    pub index: u32,
    pub entry: SearchEntry,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchEntry {
    /// The searcher was asked for this trial's parameters, and takes long: they follow from what it had heard by
    /// then, and what comes after this it hears after that.
    Asked { trial: TrialId },
    /// The searcher proposed this trial's parameters: now, or when it was asked for them.
    Suggested { trial: TrialId },
    /// The searcher had nothing more to propose.
    Exhausted,
    /// The searcher was told how a trial ended.
    Observed(Observation),
    /// Trials were added to the search.
    Extended { trials: u32 },
    /// A trial whose failure was counted is tried again; its next end counts in place of that.
    Retried { trial: TrialId },
    /// No new trial begins: what waits for more of them goes on without.
    Closed,
    /// A trial has reached a rung with this value; `None`: with none that counts.
    Rung {
        trial: TrialId,
        rung: u32,
        value: Option<f64>,
        /// Where it lies. Logs that were written before rungs lay anywhere but ahead have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<u64>,
        /// Of every objective, where there are several and all have one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<f64>,
    },
    /// The scheduler lets a trial go on from this rung to the next.
    Promoted {
        trial: TrialId,
        rung: u32,
        /// Its hyperparameters from there on, where they change. Logs that were written before these were kept have
        /// none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params: Option<Params>,
    },
}
