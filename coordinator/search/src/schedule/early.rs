//! Early stopping of each trial by itself: worse than a threshold, or without improvement for too long.
//!
//! In every period of `interval` epochs one result of a trial counts. From `grace_period` on, a trial is
//! stopped when a result is worse than `threshold`, or when `patience` results in a row did not improve on
//! the best before them by more than `min_delta`. A result without a finite value is worse than any
//! threshold, and no improvement.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{Params, SchedulerSpec};

use super::pace::{Course, Pace};
use super::place::cost;
use super::{Rule, Verdict};

#[derive(Debug, Clone, Copy, Default)]
struct Runner {
    course: Course,
    /// The lowest cost that counted as an improvement.
    best: Option<f64>,
    /// Results since then.
    idle: u32,
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct EarlyStopping {
    mode: Mode,
    pace: Pace,
    /// As a cost.
    threshold: Option<f64>,
    patience: Option<u32>,
    min_delta: f64,
    /// By trial number.
    runners: Vec<Runner>,
}

impl EarlyStopping {
    pub(super) fn of(spec: &SchedulerSpec, max: Option<u64>, mode: Mode) -> Self {
        Self {
            mode,
            pace: Pace::of(spec, max),
            threshold: spec.threshold.map(|value| cost(mode, value)),
            patience: spec.patience,
            min_delta: spec.min_delta.unwrap_or(0.0),
            runners: Vec::new(),
        }
    }

    fn runner(&self, trial: TrialId) -> Option<&Runner> {
        self.runners.get(trial.0 as usize)
    }

    /// Whether a trial whose newest result is this has failed one of the bounds.
    fn fails(&self, runner: Runner, cost: Option<f64>) -> bool {
        let over = |bound: f64| cost.is_none_or(|cost| cost > bound);
        let tired = |patience| runner.idle >= patience;
        self.threshold.is_some_and(over) || self.patience.is_some_and(tired)
    }
}

impl Rule for EarlyStopping {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize == self.runners.len() {
            self.runners.push(Runner::default());
        }
    }

    fn until(&self, _trial: TrialId) -> Option<u64> {
        self.pace.max
    }

    fn next_look(&self, trial: TrialId) -> Option<u64> {
        Some(self.pace.next(self.runner(trial)?.course))
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.runner(trial)
            .map_or(0, |runner| runner.course.resource)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        self.pace.counts(self.runner(trial)?.course, resource)
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let Some(runner) = self.runners.get_mut(trial.0 as usize) else {
            return Verdict::Continue;
        };
        if !self.pace.advance(&mut runner.course, resource) {
            return Verdict::Continue;
        }
        let told = value.map(|value| cost(self.mode, value));
        let improves = |cost: &f64| runner.best.is_none_or(|best| *cost < best - self.min_delta);
        match told.filter(improves) {
            Some(cost) => (runner.best, runner.idle) = (Some(cost), 0),
            None => runner.idle = runner.idle.saturating_add(1),
        }
        let now = *runner;
        let stops = self.pace.may_stop(resource) && self.fails(now, told);
        if stops || self.pace.is_last(resource) {
            self.ended(trial, None);
        }
        match (stops, self.pace.is_last(resource)) {
            (true, _) => Verdict::Stop,
            (_, true) => Verdict::Done,
            _ => Verdict::Continue,
        }
    }

    fn ended(&mut self, trial: TrialId, _value: Option<f64>) {
        if let Some(runner) = self.runners.get_mut(trial.0 as usize) {
            runner.course.over = true;
        }
    }
}
