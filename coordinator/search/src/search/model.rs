//! Searches that learn: what all models have in common.
//!
//! Owns the history that models look at, in which a trial's values are costs; the results that were known
//! beforehand come first in it. A model proposes a point; what is no new configuration of a finite space, or
//! breaks a constraint after all, is replaced by a draw. The models themselves are in the modules beside.

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::search::{Mode, SearcherName};
use trainyard_common::spec::{JobSpec, Params};

use super::axes::Axes;
use super::history::{History, Status};
use super::random::RandomSearch;
use super::{Observation, Outcome};

#[derive(Debug, Clone)]
pub(super) struct ModelSearch {
    axes: Axes,
    key: Key,
    mode: Mode,
    history: History,
    /// Results that were known beforehand: trial t is entry `priors + t` of the history.
    priors: usize,
    model: Model,
    /// Replaces proposals, and knows what was proposed in a finite space.
    draws: RandomSearch,
}

#[derive(Debug, Clone)]
enum Model {
    /// Nothing to learn.
    Draws,
}

impl ModelSearch {
    pub(super) fn new(space: SearchSpace, job: &JobSpec) -> Self {
        let axes = Axes::new(space.clone());
        let mode = job
            .objectives
            .first()
            .map_or(Mode::Minimize, |first| first.mode);
        let mut history = History::default();
        for prior in &job.searcher.prior_results {
            if let Some(point) = axes.encode(&prior.params) {
                history.begun(point);
                let place = history.trials.len() - 1;
                history.ended(place, done(mode.cost(prior.value)));
            }
        }
        Self {
            model: Model::Draws,
            draws: RandomSearch::new(space, job.seed, None, Vec::new()),
            key: Key::new(job.seed).named("model"),
            mode,
            priors: history.trials.len(),
            history,
            axes,
        }
    }

    /// A trial begins whose configuration others chose.
    pub(super) fn begun(&mut self, params: &Params) {
        self.draws.take(params);
        let point = self.axes.encode(params);
        self.history.begun(point.unwrap_or_default());
    }

    pub(super) fn next(&mut self, trial: TrialId, first_resource: Option<u64>) -> Option<Params> {
        let key = self.key.with(u64::from(trial.0));
        let proposed = self
            .propose(first_resource, key)
            .map(|point| self.axes.decode(&point));
        let fits = |params: &Params| self.axes.space().allows(params);
        let params = match proposed.filter(fits) {
            Some(params) if self.draws.take(&params) => params,
            _ => self.draws.next(trial)?,
        };
        let point = self.axes.encode(&params);
        self.history.begun(point.unwrap_or_default());
        Some(params)
    }

    fn propose(&mut self, _first_resource: Option<u64>, _key: Key) -> Option<Vec<f64>> {
        match &mut self.model {
            Model::Draws => None,
        }
    }

    pub(super) fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) {
        if let Some(value) = value {
            let cost = self.mode.cost(value);
            self.history.reached(self.place(trial), resource, cost);
        }
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        let status = match &observation.outcome {
            Outcome::Completed { value: Some(value) } | Outcome::Stopped { value: Some(value) } => {
                done(self.mode.cost(*value))
            }
            Outcome::Completed { value: None }
            | Outcome::Stopped { value: None }
            | Outcome::Failed
            | Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory => Status::Bad,
            Outcome::NodeLost | Outcome::Hung | Outcome::Preempted | Outcome::Cancelled => {
                Status::Void
            }
        };
        self.history.ended(self.place(observation.trial), status);
    }

    pub(super) fn choice(&self) -> Option<(SearcherName, String)> {
        None
    }

    fn place(&self, trial: TrialId) -> usize {
        self.priors + trial.0 as usize
    }
}

/// What is no number is as bad as a failure.
fn done(cost: f64) -> Status {
    if cost.is_finite() {
        Status::Done(cost)
    } else {
        Status::Bad
    }
}
