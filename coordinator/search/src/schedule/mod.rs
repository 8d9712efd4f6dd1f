//! Trial schedulers: who decides how far a trial goes, and which goes on. Pure.
//!
//! A scheduler sees what the job's search log holds, in its order, and nothing else: which trials were
//! begun, what they came to at a rung, how they ended, whom it promoted. So its decisions follow from the
//! log, and replaying the log gives them again. What people hold and which slots are free it never hears.
//!
//! Later schedulers are more variants. One answers: until which resource an attempt of a trial runs
//! (`until`), what a result there means (`reached`), and whether a trial that waits is to go on
//! (`promotable`). The resource is the number of complete epochs that reports name.

mod asha;
pub mod logical;
pub mod moasha;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::{Mode, SchedulerName};
use trainyard_common::spec::{JobSpec, SchedulerSpec};

pub use asha::Asha;

/// What becomes of a trial that has reached a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// It waits at the rung, without slots, until it is promoted or the search ends.
    Pause,
    /// It has had all that a trial of this search may have.
    Done,
}

/// A trial that is to go on from its rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    pub trial: TrialId,
    /// The rung at which it waits.
    pub rung: u32,
    pub reason: String,
}

/// Decides which trials go on.
#[derive(Debug, Clone)]
pub enum Scheduler {
    /// Every trial runs to its end, in the order of suggestion.
    Fifo,
    Asha(Box<Asha>),
}

impl Scheduler {
    /// The scheduler of a job as accepted.
    pub fn of(job: &JobSpec) -> Self {
        match (&job.scheduler, job.objectives.first()) {
            (Some(spec), Some(objective)) if spec.name == SchedulerName::Asha => {
                let epochs = u64::from(job.training.epochs);
                Self::Asha(Box::new(asha(spec, epochs, objective.mode)))
            }
            _ => Self::Fifo,
        }
    }

    /// A new trial begins.
    pub fn begun(&mut self, trial: TrialId) {
        if let Self::Asha(asha) = self {
            asha.begun(trial);
        }
    }

    /// Until which resource an attempt of the trial runs now; `None`: to the end of training.
    pub fn until(&self, trial: TrialId) -> Option<u64> {
        match self {
            Self::Fifo => None,
            Self::Asha(asha) => asha.until(trial),
        }
    }

    /// The rung on which a result of the trial at this resource counts, if it does.
    pub fn reaches(&self, trial: TrialId, resource: u64) -> Option<u32> {
        match self {
            Self::Fifo => None,
            Self::Asha(asha) => asha.reaches(trial, resource),
        }
    }

    /// The trial's result at the rung that it was to reach; `None` where it has no finite one, which is
    /// worse than any. Called once a rung.
    pub fn reached(&mut self, trial: TrialId, value: Option<f64>) -> Verdict {
        match self {
            Self::Fifo => Verdict::Continue,
            Self::Asha(asha) => asha.reached(trial, value),
        }
    }

    /// The trial has ended. On its way to a rung it counts there with `value`, or as the worst.
    pub fn ended(&mut self, trial: TrialId, value: Option<f64>) {
        if let Self::Asha(asha) = self {
            asha.ended(trial, value);
        }
    }

    /// The rung at which the trial waits for a promotion.
    pub fn waits(&self, trial: TrialId) -> Option<u32> {
        match self {
            Self::Fifo => None,
            Self::Asha(asha) => asha.waits(trial),
        }
    }

    /// Whether the rung that the trial is on, or on its way to, is the last.
    pub fn at_top(&self, trial: TrialId) -> bool {
        match self {
            Self::Fifo => true,
            Self::Asha(asha) => asha.at_top(trial),
        }
    }

    /// The trial that is to go on now, before any new one.
    pub fn promotable(&self) -> Option<Promotion> {
        match self {
            Self::Fifo => None,
            Self::Asha(asha) => asha.promotable(),
        }
    }

    /// The promotable trial goes on to its next rung. Nothing, where it is not the one.
    pub fn promote(&mut self, trial: TrialId) -> Option<Promotion> {
        match self {
            Self::Fifo => None,
            Self::Asha(asha) => asha.promote(trial),
        }
    }

    /// Where a trial that waits stands, for people.
    pub fn place(&self, trial: TrialId) -> String {
        match self {
            Self::Fifo => "its checkpoint".to_owned(),
            Self::Asha(asha) => asha.describe(trial),
        }
    }
}

fn asha(spec: &SchedulerSpec, epochs: u64, mode: Mode) -> Asha {
    let max = spec.max_resource.unwrap_or(epochs);
    let min = spec.min_resource.unwrap_or(SchedulerSpec::MIN_RESOURCE);
    Asha::new(min, max, spec.eta.unwrap_or(SchedulerSpec::ETA), mode)
}

#[cfg(test)]
mod tests;
