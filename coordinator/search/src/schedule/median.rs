//! The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2): a trial is stopped at
//! resource t if its best value until t is strictly worse than the median of the other trials' running
//! averages until t.
//!
//! In every period of `interval` epochs one result of a trial counts; its running average is the mean of
//! those. Compared are all others that have a result in the same period, however they fared since. Nobody
//! is stopped before `grace_period`, or while fewer than `min_trials` others can be compared.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{Params, SchedulerSpec};

use super::pace::{Course, Pace};
use super::place::{Place, cost, cost_of, order_of};
use super::{Rule, Verdict};

/// What a trial has told so far, as costs.
#[derive(Debug, Clone, Copy, Default)]
struct Runner {
    course: Course,
    sum: f64,
    count: u32,
    best: Option<f64>,
}

impl Runner {
    fn tell(&mut self, cost: f64) {
        self.sum += cost;
        self.count += 1;
        self.best = Some(self.best.map_or(cost, |best| best.min(cost)));
    }

    fn average(&self) -> Option<f64> {
        let average = self.sum / f64::from(self.count);
        average.is_finite().then_some(average)
    }
}

/// Running averages in two halves, so that their median is at hand: the lower half has as many as the upper
/// one, or one more.
#[derive(Debug, Clone, Default)]
struct Averages {
    lower: BTreeSet<Place>,
    upper: BTreeSet<Place>,
}

impl Averages {
    fn insert(&mut self, place: Place) {
        match self.lower.last() {
            Some(last) if place < *last => self.lower.insert(place),
            _ => self.upper.insert(place),
        };
        while self.lower.len() > self.upper.len() + 1
            && let Some(last) = self.lower.pop_last()
        {
            self.upper.insert(last);
        }
        while self.upper.len() > self.lower.len()
            && let Some(first) = self.upper.pop_first()
        {
            self.lower.insert(first);
        }
    }

    fn len(&self) -> usize {
        self.lower.len() + self.upper.len()
    }

    /// The middle one, or the mean of the two in the middle.
    fn median(&self) -> Option<f64> {
        let below = cost_of(self.lower.last()?.0);
        let above = self.upper.first().map(|place| cost_of(place.0));
        match above {
            Some(above) if self.lower.len() == self.upper.len() => Some(below / 2.0 + above / 2.0),
            _ => Some(below),
        }
    }
}

/// The state of one search.
#[derive(Debug, Clone)]
pub(super) struct MedianStopping {
    mode: Mode,
    pace: Pace,
    min_trials: usize,
    /// By trial number.
    runners: Vec<Runner>,
    /// By period.
    averages: BTreeMap<u64, Averages>,
}

impl MedianStopping {
    pub(super) fn of(spec: &SchedulerSpec, max: Option<u64>, mode: Mode) -> Self {
        Self {
            mode,
            pace: Pace::of(spec, max),
            min_trials: spec.min_trials.unwrap_or(SchedulerSpec::MIN_TRIALS) as usize,
            runners: Vec::new(),
            averages: BTreeMap::new(),
        }
    }

    fn runner(&self, trial: TrialId) -> Option<&Runner> {
        self.runners.get(trial.0 as usize)
    }

    /// Whether the best cost is strictly worse than the median of the averages that were told.
    fn is_behind(&self, best: Option<f64>, period: u64) -> bool {
        let averages = self.averages.get(&period);
        let enough = averages.filter(|averages| averages.len() >= self.min_trials);
        let median = enough.and_then(Averages::median);
        median.is_some_and(|median| best.is_none_or(|best| best > median))
    }
}

impl Rule for MedianStopping {
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
        if let Some(value) = value {
            runner.tell(cost(self.mode, value));
        }
        let told = *runner;
        let period = self.pace.period(resource);
        let stops = self.pace.may_stop(resource) && self.is_behind(told.best, period);
        if let Some(average) = told.average() {
            let averages = self.averages.entry(period).or_default();
            averages.insert((order_of(average + 0.0), trial));
        }
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
