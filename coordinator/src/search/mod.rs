//! Searchers: who proposes configurations. Pure: a suggestion follows from the spec, the seed and the
//! order of calls, so that replaying the log gives the same next suggestion after any restart.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::TrialId;
use trainyard_common::spec::{Params, SearcherSpec, Space};

/// The answer to "what next?".
#[derive(Debug, Clone, PartialEq)]
pub enum Suggestion {
    /// A configuration for the trial.
    Params(Params),
    /// There will be no more suggestions.
    Exhausted,
    /// None now; ask again after the next observation.
    Wait,
}

/// How a trial ended, as far as a search cares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With its best value of the first objective; `None` where it never reported one.
    Completed {
        value: Option<f64>,
    },
    Failed,
    Cancelled,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub trial: TrialId,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    #[error("{0}")]
    Space(String),
    #[error("searcher.max_trials: needed with `random`")]
    NeedsMaxTrials,
}

/// Proposes configurations.
#[derive(Debug, Clone)]
pub enum Searcher {
    /// Every configuration once, in the order of the spec, the last hyperparameter fastest.
    Grid(Grid),
    /// Independent draws; in a finite space without repetition.
    Random(Random),
}

#[derive(Debug, Clone)]
pub struct Grid {}

#[derive(Debug, Clone)]
pub struct Random {}

impl Searcher {
    pub fn new(_spec: &SearcherSpec, _space: &Space, _seed: u64) -> Result<Self, SearchError> {
        Ok(Self::Grid(Grid {}))
    }

    /// A configuration for `trial`. Called once for each trial, in the order of trial numbers.
    pub fn suggest(&mut self, _trial: TrialId) -> Suggestion {
        Suggestion::Exhausted
    }

    /// Learns how a trial ended. Grid and random search do not.
    pub fn observe(&mut self, _observation: &Observation) {}

    /// The number of trials that the search will have, where it is known.
    pub fn expected_trials(&self) -> Option<u32> {
        None
    }
}
