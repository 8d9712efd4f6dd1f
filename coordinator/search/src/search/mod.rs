//! Searchers: who proposes configurations. Pure: a suggestion follows from the spec, the seed and the
//! order of calls, so that replaying the log gives the same next suggestion after any restart.
//!
//! [`Searcher`] counts trials and hands out the spec's own points first; then one of three proposes: a grid,
//! draws, or a model that learns from results (`model`).

mod auto;
pub mod axes;
pub mod bohb;
pub mod cma;
pub mod dehb;
pub mod gp;
mod grid;
pub mod history;
mod levels;
mod model;
pub mod nsga2;
mod parzen;
mod points;
mod proposed;
mod random;
mod ranking;
#[cfg(test)]
mod rare_tests;
pub mod scalarize;
mod sequence;
pub mod tpe;
#[cfg(test)]
mod trial_run;
mod untried;

use serde::{Deserialize, Serialize};
use trainyard_common::ids::TrialId;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::search::SearcherName;
use trainyard_common::spec::{FailureKind, JobSpec, Params};

use grid::GridSearch;
use model::ModelSearch;
use random::RandomSearch;
use sequence::Sequence;

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
    /// Of every objective, in the order of the spec, where there are several and all have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    #[error("{0}")]
    Space(String),
    #[error("searcher.max_trials: needed with every searcher but `grid`")]
    NeedsMaxTrials,
}

/// Proposes configurations.
#[derive(Debug, Clone)]
pub struct Searcher {
    strategy: Strategy,
    /// The spec's own points that were not handed out yet, the next one last.
    given: Vec<Params>,
    suggested: u32,
    /// Trials that the search may have.
    max_trials: u32,
    /// Different configurations of the space; `None`: without end.
    size: Option<u32>,
}

#[derive(Debug, Clone)]
enum Strategy {
    Grid(GridSearch),
    /// Draws, independent or points of a quasi-random sequence; in a finite space without repetition.
    Random(RandomSearch),
    Model(Box<ModelSearch>),
}

impl Searcher {
    /// The searcher of a job as accepted.
    ///
    /// # Errors
    /// Where the space is wrong, a grid has an axis without points, or a random search no end.
    pub fn of(job: &JobSpec) -> Result<Self, SearchError> {
        Self::over(job, SearchSpace::of(job).map_err(all)?)
    }

    /// As [`of`](Self::of), over the job's space as it was read before: what was found out about it is not looked
    /// for again.
    ///
    /// # Errors
    /// As there.
    pub fn over(job: &JobSpec, space: SearchSpace) -> Result<Self, SearchError> {
        let spec = &job.searcher;
        let mut given = Vec::new();
        for point in &spec.points_to_evaluate {
            given.push(space.completed(point).map_err(|error| all(vec![error]))?);
        }
        let is_grid = spec.name == SearcherName::Grid;
        let size = if is_grid {
            let outside = given.iter().filter(|point| !space.in_grid(point)).count();
            let whole = space.grid_len().map(|len| len + outside as u128);
            Some(saturated(whole))
        } else {
            let size = space.cardinality().filter(|size| *size > 1);
            size.map(|size| saturated(Some(size)))
        };
        let max_trials = match spec.max_trials {
            Some(max_trials) => max_trials,
            None if is_grid => u32::MAX,
            None => return Err(SearchError::NeedsMaxTrials),
        };
        let fingerprints: Vec<String> = given.iter().map(|p| space.fingerprint(p)).collect();
        let strategy = match spec.name {
            SearcherName::Grid => {
                Strategy::Grid(GridSearch::new(space, fingerprints).map_err(all)?)
            }
            SearcherName::Random => drawn(space, job.seed, None, fingerprints),
            SearcherName::Sobol => drawn(
                space,
                job.seed,
                Some(Sequence::sobol(job.seed)),
                fingerprints,
            ),
            SearcherName::Halton => {
                let halton = Sequence::halton(job.seed, space.parameters().len());
                drawn(space, job.seed, Some(halton), fingerprints)
            }
            _ => Strategy::Model(Box::new(ModelSearch::new(space, job))),
        };
        given.reverse();
        Ok(Self {
            strategy,
            given,
            suggested: 0,
            max_trials,
            size,
        })
    }

    /// A configuration for `trial`. Called once for each trial, in the order of trial numbers.
    /// `first_resource` is the resource at which the scheduler wants its first result; `None`: at its end.
    /// No answer: there will be no more.
    pub fn suggest(&mut self, trial: TrialId, first_resource: Option<u64>) -> Option<Params> {
        if self.suggested >= self.expected() {
            return None;
        }
        let params = match self.given.pop() {
            Some(point) => {
                if let Strategy::Model(model) = &mut self.strategy {
                    model.begun(&point);
                }
                Some(point)
            }
            None => match &mut self.strategy {
                Strategy::Grid(grid) => grid.next(),
                Strategy::Random(random) => random.next(trial),
                Strategy::Model(model) => model.next(trial, first_resource),
            },
        };
        self.suggested += u32::from(params.is_some());
        params
    }

    /// As [`suggest`](Self::suggest), for a trial whose configuration is known from the log: it is taken over
    /// without being found anew where that is much less work. A grid, draws of which the first counts, and the
    /// spec's own points are asked, and may answer otherwise.
    pub fn adopt(
        &mut self,
        trial: TrialId,
        first_resource: Option<u64>,
        params: &Params,
    ) -> Option<Params> {
        if !self.given.is_empty() || self.suggested >= self.expected() {
            return self.suggest(trial, first_resource);
        }
        let adopted = match &mut self.strategy {
            Strategy::Model(model) => {
                model.adopt(trial, first_resource, params);
                Some(params.clone())
            }
            Strategy::Random(random) => random.adopt(trial, params),
            Strategy::Grid(grid) => grid.next(),
        };
        self.suggested += u32::from(adopted.is_some());
        adopted
    }

    /// What the next suggestion takes, about and mostly at most, in milliseconds of one core, by what there is to look
    /// at: whoever has other things to do lets another thread do what takes any.
    pub fn effort_ms(&self) -> u64 {
        match &self.strategy {
            Strategy::Model(model) if self.given.is_empty() => model.effort_ms(),
            Strategy::Random(random) => random.effort_ms(),
            Strategy::Grid(grid) => grid.effort_ms(),
            Strategy::Model(_) => 0,
        }
    }

    /// Learns what a trial came to at a resource; `None`: nothing finite.
    pub fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) {
        if let Strategy::Model(model) = &mut self.strategy {
            model.reached(trial, resource, value);
        }
    }

    /// Learns that a trial goes on from the resource where it waited.
    pub fn promoted(&mut self, trial: TrialId) {
        if let Strategy::Model(model) = &mut self.strategy {
            model.promoted(trial);
        }
    }

    /// Learns how a trial ended. Grid and draws do not.
    pub fn observe(&mut self, observation: &Observation) {
        if let Strategy::Model(model) = &mut self.strategy {
            model.observe(observation);
        }
    }

    /// Adds trials to the search, as far as there are more configurations.
    pub fn extend(&mut self, trials: u32) {
        self.max_trials = self.expected().saturating_add(trials);
    }

    /// How many trials can be added; `None`: any number.
    pub fn room(&self) -> Option<u32> {
        Some(self.size? - self.expected())
    }

    /// The number of trials that the search will have; `None`: it has no end of its own.
    pub fn expected_trials(&self) -> Option<u32> {
        Some(self.expected()).filter(|trials| *trials != u32::MAX)
    }

    fn expected(&self) -> u32 {
        self.max_trials.min(self.size.unwrap_or(u32::MAX))
    }

    /// Which searcher `auto` has chosen, and why.
    pub fn choice(&self) -> Option<(SearcherName, String)> {
        match &self.strategy {
            Strategy::Model(model) => model.choice(),
            Strategy::Grid(_) | Strategy::Random(_) => None,
        }
    }
}

fn drawn(
    space: SearchSpace,
    seed: u64,
    sequence: Option<Sequence>,
    given: Vec<String>,
) -> Strategy {
    Strategy::Random(RandomSearch::new(space, seed, sequence, given))
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
