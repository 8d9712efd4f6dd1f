//! When a rule that stops trials looks at them: one result in each period of `interval` epochs counts.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{Params, SchedulerSpec};

use super::place::cost;
use super::{Rule, Verdict};

/// What a rule makes of the results that count.
pub(super) trait Judge {
    /// What it knows of one trial.
    type Record: Default;

    /// Takes in a trial's result in a period as a cost, `None` where it has no finite one; whether the trial
    /// has failed. That stops it where it may be stopped.
    fn fails(
        &mut self,
        trial: TrialId,
        period: u64,
        record: &mut Self::Record,
        cost: Option<f64>,
    ) -> bool;
}

/// A rule under which trials run on while a judge looks at them.
#[derive(Debug, Clone)]
pub(super) struct Paced<J: Judge> {
    mode: Mode,
    pace: Pace,
    judge: J,
    /// By trial number.
    runners: Vec<(Course, J::Record)>,
}

impl<J: Judge> Paced<J> {
    pub(super) fn new(spec: &SchedulerSpec, max: Option<u64>, mode: Mode, judge: J) -> Self {
        Self {
            mode,
            pace: Pace::of(spec, max),
            judge,
            runners: Vec::new(),
        }
    }

    fn course(&self, trial: TrialId) -> Option<Course> {
        let runner = self.runners.get(trial.0 as usize);
        runner.map(|(course, _)| *course)
    }
}

impl<J: Judge> Rule for Paced<J> {
    fn begun(&mut self, trial: TrialId, _params: &Params) {
        if trial.0 as usize == self.runners.len() {
            let runner = (Course::default(), J::Record::default());
            self.runners.push(runner);
        }
    }

    fn until(&self, _trial: TrialId) -> Option<u64> {
        self.pace.max
    }

    fn next_look(&self, trial: TrialId) -> Option<u64> {
        Some(self.pace.next(self.course(trial)?))
    }

    fn from(&self, trial: TrialId) -> u64 {
        self.course(trial).map_or(0, |course| course.resource)
    }

    fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        self.pace.counts(self.course(trial)?, resource)
    }

    fn reached(&mut self, trial: TrialId, resource: u64, value: Option<f64>) -> Verdict {
        let Some((course, record)) = self.runners.get_mut(trial.0 as usize) else {
            return Verdict::Continue;
        };
        if !self.pace.advance(course, resource) {
            return Verdict::Continue;
        }
        let told = value.map(|value| cost(self.mode, value));
        let period = self.pace.period(resource);
        let fails = self.judge.fails(trial, period, record, told);
        let stops = fails && self.pace.may_stop(resource);
        let last = self.pace.is_last(resource);
        course.over |= stops || last;
        match (stops, last) {
            (true, _) => Verdict::Stop,
            (_, true) => Verdict::Done,
            _ => Verdict::Continue,
        }
    }

    fn ended(&mut self, trial: TrialId, _value: Option<f64>) {
        if let Some((course, _)) = self.runners.get_mut(trial.0 as usize) {
            course.over = true;
        }
    }
}

#[derive(Debug, Clone)]
struct Pace {
    interval: u64,
    grace_period: u64,
    /// Until which trials run; `None`: they end by themselves.
    max: Option<u64>,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, Default)]
struct Course {
    /// The last period in which a result counted, and where.
    period: u64,
    resource: u64,
    /// Nothing counts any more.
    over: bool,
}

impl Pace {
    fn of(spec: &SchedulerSpec, max: Option<u64>) -> Self {
        Self {
            interval: spec.interval.unwrap_or(SchedulerSpec::INTERVAL).max(1),
            grace_period: spec.grace_period.unwrap_or(SchedulerSpec::GRACE_PERIOD),
            max,
        }
    }

    /// Whether the resource is all that a trial may have.
    fn is_last(&self, resource: u64) -> bool {
        self.max.is_some_and(|max| resource >= max)
    }

    /// Whether trials may be stopped at the resource.
    fn may_stop(&self, resource: u64) -> bool {
        resource >= self.grace_period && !self.is_last(resource)
    }

    /// The period of a resource; the maximum ends one of its own.
    fn period(&self, resource: u64) -> u64 {
        match self.max.filter(|max| resource >= *max) {
            Some(max) => max.div_ceil(self.interval),
            None => resource / self.interval,
        }
    }

    /// The period under which a result counts, if it does.
    fn counts(&self, course: Course, resource: u64) -> Option<u32> {
        let period = self.period(resource);
        let counts = !course.over && period > course.period;
        counts.then(|| u32::try_from(period).unwrap_or(u32::MAX))
    }

    /// The resource at which the next result can count.
    fn next(&self, course: Course) -> u64 {
        let next = (course.period + 1).saturating_mul(self.interval);
        self.max.map_or(next, |max| next.min(max))
    }

    /// Enters a result that counts; false, where it does not.
    fn advance(&self, course: &mut Course, resource: u64) -> bool {
        let counts = self.counts(*course, resource).is_some();
        if counts {
            course.period = self.period(resource);
            course.resource = resource;
        }
        counts
    }
}
