//! Under a scheduler with rungs: the results that a model of one cost can compare.
//!
//! Costs of different rungs are of different scales. A model sees the highest rung that has enough results,
//! as BOHB does (Falkner et al. 2018): a trial that was there has its cost of that rung, one that is on its way
//! there is under way, one that rests below it waits, and one that ended below it is left out.

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
    /// What a model sees, and how much of what was told is in it.
    seen: History,
    mark: usize,
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
            seen: History::default(),
            mark: 0,
        })
    }

    /// Where results that were known beforehand count.
    pub(super) fn top(&self) -> u64 {
        self.top
    }

    /// What a model sees, and whether that is of another rung than before.
    pub(super) fn seen(&mut self, history: &History) -> (&History, bool) {
        let level = self.highest(history);
        let changed = level != self.level;
        if changed {
            (self.seen, self.mark) = (History::default(), 0);
            self.level = level;
        }
        for trial in history.news(&mut self.mark) {
            let past = &history.trials[trial];
            if trial == self.seen.trials.len() {
                self.seen.begun(past.point.clone());
            }
            let status = status_at(past, level);
            if self.seen.trials[trial].status != status {
                self.seen.ended(trial, status);
            }
        }
        (&self.seen, changed)
    }

    /// The highest rung with enough results; of none the lowest that has any.
    fn highest(&self, history: &History) -> u64 {
        let counts = history.counts();
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
        (None, Status::Pending) if past.rests() => Status::Waits,
        (None, status) => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Bad, Done, Pending, Void, Waits};

    #[test]
    fn a_model_sees_what_it_would_see_afresh() {
        let fresh = || Levels {
            enough: 3,
            level: 0,
            top: 9,
            seen: History::default(),
            mark: 0,
        };
        let statuses = |levels: &mut Levels, history: &History| {
            let (seen, _) = levels.seen(history);
            let statuses = seen.trials.iter().map(|past| past.status);
            statuses.collect::<Vec<Status>>()
        };
        let (mut levels, mut history) = (fresh(), History::default());
        let mut changes = Vec::new();
        for trial in 0..40 {
            history.begun(vec![trial as f64]);
            let cost = ((trial * 7) % 40) as f64;
            if trial % 8 != 5 {
                history.reached(trial, 1, cost);
            }
            match trial % 8 {
                0 | 4 => history.promoted(trial),
                1 => history.ended(trial, Bad),
                2 => history.ended(trial, Done(cost)),
                _ => {}
            }
            if trial % 4 == 0 && trial >= 4 {
                history.reached(trial - 4, 3, cost / 2.0);
            }
            changes.push(levels.seen(&history).1);
            let again = statuses(&mut levels, &history);
            assert_eq!(again, statuses(&mut fresh(), &history), "{trial}");
        }
        // From none to the first rung, and once to the second.
        assert_eq!(changes.iter().filter(|changed| **changed).count(), 2);
        let found = statuses(&mut levels, &history);
        assert_eq!(
            found[32..],
            [
                Done(0.0 + 6.0),
                Bad,
                Void,
                Waits,
                Pending,
                Pending,
                Waits,
                Waits
            ]
        );
    }
}
