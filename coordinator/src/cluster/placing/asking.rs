//! Who may be asked to leave its slots for others.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::{AttemptKind, AttemptRef};

/// A trial that was preempted so often is not preempted for a higher priority any more.
pub(in crate::cluster) const MAX_PREEMPTIONS: u32 = 5;

impl Machine {
    pub(in crate::cluster) fn started(&self, at: &AttemptRef) -> u64 {
        self.attempt(at).map_or(0, |attempt| attempt.started_ms)
    }

    pub(in crate::cluster) fn priority(&self, job: &JobId) -> i32 {
        self.jobs.get(job).map_or(0, |found| found.record.priority)
    }

    pub(in crate::cluster) fn importance(&self, at: &AttemptRef) -> i64 {
        i64::from(self.priority(&at.job))
    }

    pub(in crate::cluster) fn preemptible(&self, at: &AttemptRef) -> bool {
        let found = self.jobs.get(&at.job);
        !self.leaves(at) && found.is_some_and(|found| found.document.job().preemptible)
    }

    pub(in crate::cluster) fn may_preempt(&self, at: &AttemptRef, priority: i32) -> bool {
        let trial = self
            .jobs
            .get(&at.job)
            .and_then(|found| found.live(at.trial));
        let trains = self
            .attempt(at)
            .is_some_and(|a| a.kind == AttemptKind::Train);
        let often = trial.is_none_or(|trial| trial.record.preempted >= MAX_PREEMPTIONS);
        self.preemptible(at) && self.priority(&at.job) < priority && trains && !often
    }

    /// Whether one who has waited for long may ask this attempt to leave.
    pub(in crate::cluster) fn may_ask(&self, at: &AttemptRef, priority: i32, pushes: bool) -> bool {
        let theirs = self.priority(&at.job);
        self.preemptible(at) && (theirs < priority || (pushes && theirs == priority))
    }

    /// Whether an attempt gives its slots back without being asked.
    pub(in crate::cluster) fn leaves(&self, at: &AttemptRef) -> bool {
        self.attempt(at)
            .is_none_or(|attempt| attempt.outcome.is_some() || attempt.vacate.is_some())
    }

    /// Workers still come back to a new leader: nobody is asked to leave for what may be free soon.
    pub(in crate::cluster) fn returning(&mut self) -> bool {
        let returning = self.now < self.returned_ms;
        if returning {
            self.wake_at(self.returned_ms);
        }
        returning
    }
}
