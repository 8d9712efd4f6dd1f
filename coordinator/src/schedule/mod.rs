//! Trial schedulers: who decides, at each report, whether a trial goes on. Pure.
//!
//! A scheduler sees results in the order of the job's log and nothing else, so its decisions follow
//! from the log. Later schedulers are more variants here and more decisions.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::SchedulerSpec;
use trainyard_common::spec::search::SchedulerName;

/// What becomes of a trial after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Continue,
}

/// Where the next free slots of a job go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A trial that was started before.
    Resume(TrialId),
    /// A new suggestion of the searcher.
    New,
}

/// Decides which trials go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduler {
    /// Every trial runs to its end, in the order of suggestion.
    Fifo,
}

impl Scheduler {
    pub fn new(spec: Option<&SchedulerSpec>) -> Self {
        match spec.map(|spec| spec.name) {
            None | Some(SchedulerName::Fifo) => Self::Fifo,
        }
    }

    /// Called once for each counted objective value. `resource` is the number of complete epochs.
    pub fn on_report(&mut self, trial: TrialId, resource: u64, value: f64) -> Decision {
        match self {
            Self::Fifo => {
                let _ = (trial, resource, value);
                Decision::Continue
            }
        }
    }

    /// `waiting`: trials that wait for slots and may be placed now, in order.
    pub fn next(&self, waiting: impl IntoIterator<Item = TrialId>) -> Next {
        match self {
            Self::Fifo => waiting.into_iter().min().map_or(Next::New, Next::Resume),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifo_goes_on_and_resumes_the_oldest_first() {
        let mut fifo = Scheduler::new(None);
        assert_eq!(fifo.on_report(TrialId(3), 1, f64::MAX), Decision::Continue);
        assert_eq!(
            fifo.next([TrialId(4), TrialId(2)]),
            Next::Resume(TrialId(2))
        );
        assert_eq!(fifo.next([]), Next::New);
    }
}
