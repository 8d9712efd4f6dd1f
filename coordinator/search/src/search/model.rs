//! Searches that learn: what all models have in common.
//!
//! Owns the history that models look at, in which a trial's values are costs; the results that were known
//! beforehand come first in it. A model proposes a point; what is no new configuration of a finite space, or
//! breaks a constraint after all, is replaced by a draw. The models themselves are in the modules beside, and
//! which of them `auto` takes is in [`super::auto`].

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::search::{Mode, SearcherName};
use trainyard_common::spec::{JobSpec, Params, SearcherSpec};

use super::auto::{self, Choice};
use super::axes::{Axes, Kind};
use super::bohb::Bohb;
use super::cma::Cma;
use super::dehb::Dehb;
use super::gp::Gp;
use super::history::{History, Status};
use super::levels::Levels;
use super::nsga2::Nsga2;
use super::random::RandomSearch;
use super::scalarize::Scalarized;
use super::tpe::Tpe;
use super::{Observation, Outcome};

/// Under a scheduler with rungs one of so many configurations is drawn: low rungs may mislead a model, which
/// then would propose nothing else any more (Falkner et al. 2018 draw as many).
const DRAWN_EVERY: usize = 3;

/// For a pair of results that a Gaussian process looks at, and for a result that another model does: 75 ms for a
/// thousand, and 4.
const GP_PAIR_NS: u64 = 75;
const RESULT_NS: u64 = 4_000;

/// Of fitting a Gaussian process' hyperparameters, at least; the first so many points are spread without one.
const GP_FIT_NS: u64 = 2_000_000;
const GP_SPREAD: u64 = 3;
const NS_A_MS: u64 = 1_000_000;

#[derive(Debug, Clone)]
pub(super) struct ModelSearch {
    axes: Axes,
    key: Key,
    modes: Vec<Mode>,
    history: History,
    /// By place in the history: the costs of all objectives, where there are several.
    costs: Vec<Option<Vec<f64>>>,
    /// Results that were known beforehand: trial t is entry `priors + t` of the history.
    priors: usize,
    /// Which model, and why where `auto` chose it.
    choice: Choice,
    max_points: usize,
    model: Model,
    /// Under a scheduler with rungs: the one at which trials are compared.
    levels: Option<Levels>,
    /// Where there are several objectives: what a model of one cost sees.
    scalars: Scalarized,
    /// Replaces proposals, and knows what was proposed in a finite space.
    draws: RandomSearch,
}

/// What a proposal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Propose,
    /// It is known already: only what later ones depend on matters.
    Adopt,
}

#[derive(Debug, Clone)]
enum Model {
    /// Nothing to learn.
    Draws,
    Gp(Box<Gp>),
    Tpe(Box<Tpe>),
    Cma(Box<Cma>),
    Bohb(Box<Bohb>),
    Dehb(Box<Dehb>),
    Nsga2(Nsga2),
}

impl Model {
    fn new(name: SearcherName, axes: &Axes, key: Key, max_points: usize, max_trials: u32) -> Self {
        match name {
            SearcherName::Gp => Self::Gp(Box::new(Gp::new(axes, max_points))),
            SearcherName::Tpe => Self::Tpe(Box::new(Tpe::new(axes))),
            SearcherName::CmaEs => Self::Cma(Box::new(Cma::new(axes, key.named("cma")))),
            SearcherName::Bohb => Self::Bohb(Box::new(Bohb::new(axes))),
            SearcherName::Dehb => Self::Dehb(Box::new(Dehb::new(axes, key.named("dehb")))),
            SearcherName::Nsga2 => Self::Nsga2(Nsga2::new(Nsga2::default_population(max_trials))),
            _ => Self::Draws,
        }
    }
}

impl ModelSearch {
    pub(super) fn new(space: SearchSpace, job: &JobSpec) -> Self {
        let axes = Axes::new(space.clone());
        let modes: Vec<Mode> = job
            .objectives
            .iter()
            .map(|objective| objective.mode)
            .collect();
        let key = Key::new(job.seed).named("model");
        let choice = auto::choose(job, &axes);
        let given = job.searcher.gp_max_points;
        let max_points = given.unwrap_or(SearcherSpec::GP_MAX_POINTS) as usize;
        let max_trials = job.searcher.max_trials.unwrap_or(u32::MAX);
        let levels = Levels::of(job, &axes);
        let mut search = Self {
            model: Model::new(choice.name, &axes, key, max_points, max_trials),
            choice,
            max_points,
            scalars: Scalarized::new(levels.is_some()),
            levels,
            draws: RandomSearch::new(space, job.seed, None, Vec::new()),
            key,
            modes,
            priors: 0,
            history: History::default(),
            costs: Vec::new(),
            axes,
        };
        for prior in &job.searcher.prior_results {
            if search.axes.encode(&prior.params).is_some() {
                search.begin(&prior.params);
                let cost = search.cost(prior.value);
                if let Some(levels) = &search.levels {
                    search.history.reached(search.priors, levels.top(), cost);
                }
                search.history.ended(search.priors, done(cost));
                search.priors += 1;
            }
        }
        search
    }

    /// A trial begins whose configuration others chose.
    pub(super) fn begun(&mut self, params: &Params) {
        self.draws.take(params);
        self.begin(params);
    }

    pub(super) fn next(&mut self, trial: TrialId, first_resource: Option<u64>) -> Option<Params> {
        let key = self.key.with(u64::from(trial.0));
        let proposed = self
            .propose(first_resource, key, Work::Propose)
            .map(|point| self.axes.decode(&point));
        let fits = |params: &Params| self.axes.space().allows(params);
        let params = match proposed.filter(fits) {
            Some(params) if self.draws.take(&params) && self.is_new(&params) => params,
            _ => self.draws.next(trial)?,
        };
        self.begin(&params);
        Some(params)
    }

    /// Whether no trial has this configuration; where there is nothing to choose, all have.
    fn is_new(&self, params: &Params) -> bool {
        let chooses = self
            .axes
            .axes()
            .iter()
            .any(|axis| axis.kind == Kind::Continuous);
        if !chooses {
            return true;
        }
        let point = self.axes.encode(params).unwrap_or_default();
        self.history.is_new(&point)
    }

    /// A trial begins whose configuration was proposed before: what comes next is as if it was proposed now,
    /// for less work.
    pub(super) fn adopt(&mut self, trial: TrialId, first_resource: Option<u64>, params: &Params) {
        let key = self.key.with(u64::from(trial.0));
        self.propose(first_resource, key, Work::Adopt);
        self.begun(params);
    }

    fn begin(&mut self, params: &Params) {
        let point = self.axes.encode(params);
        let nowhere = || vec![f64::NAN; self.axes.axes().len()];
        self.history.begun(point.unwrap_or_else(nowhere));
        self.costs.push(None);
    }

    fn propose(&mut self, first_resource: Option<u64>, key: Key, work: Work) -> Option<Vec<f64>> {
        // Their own way with rungs.
        match &mut self.model {
            Model::Bohb(model) if work == Work::Adopt => {
                model.adopt(&self.axes, &self.history, key);
                return None;
            }
            Model::Bohb(model) => return Some(model.propose(&self.axes, &self.history, key)),
            Model::Cma(model) if self.levels.is_some() => {
                return Some(model.propose(&self.axes, &self.history, key));
            }
            Model::Dehb(model) => {
                let first = first_resource.unwrap_or(0);
                return Some(model.propose(&self.axes, &self.history, first, key));
            }
            _ => {}
        }
        if let Model::Nsga2(model) = &mut self.model {
            if work == Work::Adopt {
                // It remembers nothing of its own.
                return None;
            }
            let costs: &[Option<Vec<f64>>] = if self.modes.len() > 1 {
                &self.costs
            } else {
                &[]
            };
            return Some(model.propose(&self.axes, &self.history, costs, key));
        }
        let history = if self.modes.len() > 1 {
            let key = key.named("weights");
            self.scalars.of(&self.history, &self.costs, key)
        } else if let Some(levels) = &mut self.levels {
            if self.history.trials.len() % DRAWN_EVERY == DRAWN_EVERY - 1
                && levels.may_mislead(&self.history)
            {
                return None;
            }
            let (seen, changed) = levels.seen(&self.history);
            if changed {
                // What it knows of costs is of another rung.
                let name = self.choice.name;
                self.model = Model::new(name, &self.axes, self.key, self.max_points, u32::MAX);
            }
            seen
        } else {
            &self.history
        };
        match &mut self.model {
            Model::Draws | Model::Nsga2(_) | Model::Bohb(_) | Model::Dehb(_) => None,
            Model::Gp(model) if work == Work::Adopt => {
                model.adopt(&self.axes, history, key);
                None
            }
            Model::Gp(model) => Some(model.propose(&self.axes, history, key)),
            Model::Tpe(model) if work == Work::Adopt => {
                model.adopt(&self.axes, history, key);
                None
            }
            Model::Tpe(model) => Some(model.propose(&self.axes, history, key)),
            Model::Cma(model) => Some(model.propose(&self.axes, history, key)),
        }
    }

    /// Of the next proposal, about: Gaussian processes take the square of the results that they look at, other
    /// models go through them, and all draw until the constraints are met.
    pub(super) fn effort_ms(&self) -> u64 {
        let results = self.history.trials.len() as u64;
        let model_ns = match &self.model {
            Model::Gp(model) => {
                // Of one cost at the end of each trial all is seen; under rungs what is seen is known afterwards.
                let all = self.levels.is_none() && self.modes.len() == 1;
                let seen = if all { results } else { model.seen() as u64 };
                let looked_at = seen.min(self.max_points as u64);
                match results {
                    0..=GP_SPREAD => 0,
                    _ => GP_FIT_NS + looked_at * looked_at * GP_PAIR_NS,
                }
            }
            _ => results * RESULT_NS,
        };
        model_ns / NS_A_MS + self.draws.effort_ms()
    }

    pub(super) fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) {
        let cost = value.map_or(f64::NAN, |value| self.cost(value));
        self.history.reached(self.place(trial), resource, cost);
    }

    pub(super) fn promoted(&mut self, trial: TrialId) {
        self.history.promoted(self.place(trial));
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        let status = match &observation.outcome {
            Outcome::Completed { value: Some(value) } | Outcome::Stopped { value: Some(value) } => {
                done(self.cost(*value))
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
        let place = self.place(observation.trial);
        if let Some(costs) = self.costs.get_mut(place)
            && observation.values.len() == self.modes.len()
        {
            let each = self.modes.iter().zip(&observation.values);
            *costs = Some(each.map(|(mode, value)| mode.cost(*value)).collect());
        }
        self.history.ended(place, status);
    }

    pub(super) fn choice(&self) -> Option<(SearcherName, String)> {
        let reason = self.choice.reason.clone()?;
        Some((self.choice.name, reason))
    }

    /// Of the first objective.
    fn cost(&self, value: f64) -> f64 {
        let mode = self.modes.first().copied().unwrap_or(Mode::Minimize);
        mode.cost(value)
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
