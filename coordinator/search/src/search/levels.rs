//! Under a scheduler with rungs: the results that a model of one cost can compare.
//!
//! Costs of different rungs are of different scales. A model sees the highest rung that has enough results,
//! as BOHB does (Falkner et al. 2018): a trial that was there has its cost of that rung, one that may still
//! come there is under way, and one that ended below it is left out.

use trainyard_common::spec::JobSpec;
use trainyard_common::spec::search::{AshaVariant, SchedulerName};

use super::axes::{Axes, Kind};
use super::history::{History, Past, Status};

#[derive(Debug, Clone)]
pub(super) struct Levels {
    /// Results that make a rung one to compare at.
    enough: usize,
    /// The rung's resource; 0: none was needed yet.
    level: u64,
    /// The resource of a whole training.
    top: u64,
}

impl Levels {
    /// `None`: trials are not compared at rungs.
    pub(super) fn of(job: &JobSpec, axes: &Axes) -> Option<Self> {
        let scheduler = job.scheduler.as_ref()?;
        let stopping = scheduler.variant == Some(AshaVariant::Stopping);
        let has_rungs = match scheduler.name {
            SchedulerName::Asha | SchedulerName::AsyncHyperband => !stopping,
            SchedulerName::Sha | SchedulerName::Hyperband => true,
            _ => false,
        };
        let free = axes.axes().iter().filter(|axis| axis.kind != Kind::Fixed);
        has_rungs.then(|| Self {
            enough: free.count() + 2,
            level: 0,
            top: scheduler
                .max_resource
                .unwrap_or(u64::from(job.training.epochs)),
        })
    }

    /// Where results that were known beforehand count.
    pub(super) fn top(&self) -> u64 {
        self.top
    }

    /// What a model sees, and whether that is of another rung than before.
    pub(super) fn seen(&mut self, history: &History) -> (History, bool) {
        let level = self.highest(history);
        let changed = level != self.level;
        self.level = level;
        let trials = history.trials.iter().map(|past| Past {
            point: past.point.clone(),
            status: status_at(past, level),
            rungs: Vec::new(),
        });
        let seen = History {
            trials: trials.collect(),
        };
        (seen, changed)
    }

    /// The highest rung with enough results; of none the lowest that has any.
    fn highest(&self, history: &History) -> u64 {
        let mut counts = std::collections::BTreeMap::<u64, usize>::new();
        for (resource, _) in history.trials.iter().flat_map(|past| &past.rungs) {
            *counts.entry(*resource).or_insert(0) += 1;
        }
        let mut enough = counts
            .iter()
            .rev()
            .filter(|(_, count)| **count >= self.enough);
        let lowest = || counts.keys().next().copied();
        enough
            .next()
            .map(|(level, _)| *level)
            .or_else(lowest)
            .unwrap_or(0)
    }
}

fn status_at(past: &Past, level: u64) -> Status {
    let cost = past.rungs.iter().find(|(resource, _)| *resource == level);
    match (cost, past.status) {
        (Some((_, cost)), _) => Status::Done(*cost),

        (None, Status::Done(_)) => Status::Void,
        (None, status) => status,
    }
}
