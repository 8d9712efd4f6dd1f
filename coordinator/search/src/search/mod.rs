//! Searchers: who proposes configurations. Pure: a suggestion follows from the spec, the seed and the
//! order of calls, so that replaying the log gives the same next suggestion after any restart.

pub mod axes;
pub mod cma;
pub mod dehb;
pub mod history;
mod points;
mod random;
mod sequence;
#[cfg(test)]
mod trial_run;

use serde::{Deserialize, Serialize};
use trainyard_common::ids::TrialId;
use trainyard_common::space::{Grid, SearchSpace};
use trainyard_common::spec::search::SearcherName;
use trainyard_common::spec::{FailureKind, Params, SearcherSpec, Space};

use random::RandomSearch;
use sequence::Sequence;

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
    /// The scheduler gave it no more epochs; with its best value until then.
    Stopped {
        value: Option<f64>,
    },
    /// By an error. Logs that were written before kinds were told apart have every failure as this.
    Failed,
    Nan,
    /// The configuration cannot be.
    Infeasible,
    OutOfMemory,
    /// Its worker was lost too often.
    NodeLost,
    /// It stopped making progress too often.
    Hung,
    Preempted,
    Cancelled,
}

impl Outcome {
    /// The value that it came to.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Completed { value } | Self::Stopped { value } => *value,
            _ => None,
        }
    }
}

impl From<FailureKind> for Outcome {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Preempted => Self::Preempted,
            FailureKind::NodeLost => Self::NodeLost,
            FailureKind::Hung => Self::Hung,
            FailureKind::OutOfMemory => Self::OutOfMemory,
            FailureKind::Nan => Self::Nan,
            FailureKind::Infeasible => Self::Infeasible,
            FailureKind::Error => Self::Failed,
        }
    }
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
    #[error("searcher.max_trials: needed with every searcher but `grid`")]
    NeedsMaxTrials,
}

/// Proposes configurations. Later searchers are more variants.
#[derive(Debug, Clone)]
pub enum Searcher {
    /// Every configuration once, in the order of the spec, the last hyperparameter fastest.
    Grid(GridSearch),
    /// Draws, independent or points of a quasi-random sequence; in a finite space without repetition.
    Random(RandomSearch),
}

/// What is left of a grid.
#[derive(Debug, Clone)]
pub struct GridSearch {
    grid: Grid,
    /// Configurations that were handed out, that will be, and that there are.
    suggested: u32,
    expected: u32,
    whole: u32,
}

impl GridSearch {
    fn next(&mut self) -> Option<Params> {
        if self.suggested >= self.expected {
            return None;
        }
        self.suggested += 1;
        self.grid.next()
    }
}

impl Searcher {
    /// # Errors
    /// Where the space is wrong, a grid has an axis without points, or a random search no end.
    pub fn new(spec: &SearcherSpec, space: &Space, seed: u64) -> Result<Self, SearchError> {
        let space = SearchSpace::new(space).map_err(all)?;
        match spec.name {
            SearcherName::Grid => {
                let whole = saturated(space.grid_len());
                let expected = spec.max_trials.unwrap_or(u32::MAX).min(whole);
                Ok(Self::Grid(GridSearch {
                    grid: space.grid().map_err(all)?,
                    suggested: 0,
                    expected,
                    whole,
                }))
            }
            SearcherName::Random => drawn(spec, space, seed, None),
            SearcherName::Sobol => drawn(spec, space, seed, Some(Sequence::sobol(seed))),
            SearcherName::Halton => {
                let halton = Sequence::halton(seed, space.parameters().len());
                drawn(spec, space, seed, Some(halton))
            }
        }
    }

    /// A configuration for `trial`. Called once for each trial, in the order of trial numbers.
    pub fn suggest(&mut self, trial: TrialId) -> Suggestion {
        let next = match self {
            Self::Grid(grid) => grid.next(),
            Self::Random(random) => random.next(trial),
        };
        next.map_or(Suggestion::Exhausted, Suggestion::Params)
    }

    /// Learns how a trial ended. Grid and draws do not.
    pub fn observe(&mut self, _observation: &Observation) {
        match self {
            Self::Grid(_) | Self::Random(_) => {}
        }
    }

    /// Adds trials to the search, as far as there are more configurations.
    pub fn extend(&mut self, trials: u32) {
        match self {
            Self::Grid(grid) => {
                grid.expected = grid.expected.saturating_add(trials).min(grid.whole);
            }
            Self::Random(random) => random.extend(trials),
        }
    }

    /// How many trials can be added; `None`: any number.
    pub fn room(&self) -> Option<u32> {
        match self {
            Self::Grid(grid) => Some(grid.whole - grid.expected),
            Self::Random(random) => random.room(),
        }
    }

    /// The number of trials that the search will have, where it is known.
    pub fn expected_trials(&self) -> Option<u32> {
        match self {
            Self::Grid(grid) => Some(grid.expected),
            Self::Random(random) => Some(random.expected()),
        }
    }
}

fn drawn(
    spec: &SearcherSpec,
    space: SearchSpace,
    seed: u64,
    sequence: Option<Sequence>,
) -> Result<Searcher, SearchError> {
    let max_trials = spec.max_trials.ok_or(SearchError::NeedsMaxTrials)?;
    let search = RandomSearch::new(space, seed, max_trials, sequence);
    Ok(Searcher::Random(search))
}

fn all(errors: Vec<trainyard_common::spec::SpecError>) -> SearchError {
    SearchError::Space(trainyard_common::spec::SpecErrors(errors).to_string())
}

/// Trials are numbered with 32 bits; what cannot be counted is more.
fn saturated(count: Option<u128>) -> u32 {
    count
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
