//! When a rule that stops trials looks at them: one result in each period of `interval` epochs counts.

use trainyard_common::spec::SchedulerSpec;

#[derive(Debug, Clone)]
pub(super) struct Pace {
    interval: u64,
    grace_period: u64,
    /// Until which trials run; `None`: they end by themselves.
    pub(super) max: Option<u64>,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Course {
    /// The last period in which a result counted, and where.
    period: u64,
    pub(super) resource: u64,
    /// Nothing counts any more.
    pub(super) over: bool,
}

impl Pace {
    pub(super) fn of(spec: &SchedulerSpec, max: Option<u64>) -> Self {
        Self {
            interval: spec.interval.unwrap_or(SchedulerSpec::INTERVAL).max(1),
            grace_period: spec.grace_period.unwrap_or(SchedulerSpec::GRACE_PERIOD),
            max,
        }
    }

    /// Whether the resource is all that a trial may have.
    pub(super) fn is_last(&self, resource: u64) -> bool {
        self.max.is_some_and(|max| resource >= max)
    }

    /// Whether trials may be stopped at the resource.
    pub(super) fn may_stop(&self, resource: u64) -> bool {
        resource >= self.grace_period && !self.is_last(resource)
    }

    /// The period of a resource; the maximum ends one of its own.
    pub(super) fn period(&self, resource: u64) -> u64 {
        match self.max.filter(|max| resource >= *max) {
            Some(max) => max.div_ceil(self.interval),
            None => resource / self.interval,
        }
    }

    /// The period under which a result counts, if it does.
    pub(super) fn counts(&self, course: Course, resource: u64) -> Option<u32> {
        let period = self.period(resource);
        let counts = !course.over && period > course.period;
        counts.then(|| u32::try_from(period).unwrap_or(u32::MAX))
    }

    /// The resource at which the next result can count.
    pub(super) fn next(&self, course: Course) -> u64 {
        let next = (course.period + 1).saturating_mul(self.interval);
        self.max.map_or(next, |max| next.min(max))
    }

    /// Enters a result that counts; false, where it does not.
    pub(super) fn advance(&self, course: &mut Course, resource: u64) -> bool {
        let counts = self.counts(*course, resource).is_some();
        if counts {
            course.period = self.period(resource);
            course.resource = resource;
        }
        counts
    }
}
