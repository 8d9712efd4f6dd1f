//! Under a scheduler with rungs: the results that a model of one cost can compare.
//!
//! Costs of different rungs are of different scales. A model sees the highest rung that has enough results,
//! as BOHB does (Falkner et al. 2018): a trial that was there has its cost of that rung, one that is on its way
//! there is under way, one that rests below it waits, and one that ended below it is left out.
//!
//! The scheduler `auto` stops nobody until rungs are found to tell what trials come to. As long as all are whole the
//! model sees what it would see without a scheduler, and where rungs tell much, what a stopped trial would have come
//! to.

use trainyard_common::spec::JobSpec;
use trainyard_common::spec::search::{AshaVariant, SchedulerName};

use super::axes::{Axes, Kind};
use super::history::{History, Past, Status};
use crate::kendall;

/// Whole trials from which it is told what a stopped one would have come to.
const ALIKE: usize = 3;
/// Kendall's tau of a rung and the level from which on the rung tells what trials come to. With less the guesses
/// are noise where a Gaussian process could be exact.
const TELLING: f64 = 0.8;
/// The newest trials that are looked at for it: tau takes the square of them.
const MOST_COMPARED: usize = 64;

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
    /// The scheduler measures itself what rungs tell, and until it stops anybody trials are whole.
    measured: bool,
}

impl Levels {
    /// `None`: trials are not compared at rungs.
    pub(super) fn of(job: &JobSpec, axes: &Axes) -> Option<Self> {
        let scheduler = job.scheduler.as_ref()?;
        let stopping = scheduler.variant == Some(AshaVariant::Stopping);
        let has_rungs = match scheduler.name {
            SchedulerName::Asha | SchedulerName::AsyncHyperband => !stopping,
            SchedulerName::Auto | SchedulerName::Sha | SchedulerName::Hyperband => true,
            _ => false,
        };
        let free = axes.axes().iter().filter(|axis| axis.kind != Kind::Fixed);
        has_rungs.then(|| Self {
            enough: free.count() + 2,
            level: 0,
            measured: scheduler.name == SchedulerName::Auto,
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

    /// Whether the model may learn from results that mislead, and some configurations are to be drawn.
    pub(super) fn may_mislead(&self, history: &History) -> bool {
        !self.measured || self.highest(history) < self.top
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
            let status = match status_at(past, level) {
                // Nobody rests at a rung: it runs on.
                Status::Waits if self.measured => Status::Pending,
                Status::Void if self.measured => foretold(past, history, level),
                status => status,
            };
            if self.seen.trials[trial].status != status {
                self.seen.ended(trial, status);
            }
        }
        (&self.seen, changed)
    }

    /// The highest rung with enough results; of none the lowest that has any.
    fn highest(&self, history: &History) -> u64 {
        if self.measured && !history.trials.iter().any(|past| self.ended_below(past)) {
            return self.top;
        }
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

    fn ended_below(&self, past: &Past) -> bool {
        matches!(past.status, Status::Done(_)) && past.at(self.top).is_none()
    }
}

/// What a trial that was stopped would have come to, where its rung tells that: the mean of those [`ALIKE`] that came
/// to the level and were the closest to it at the rung. Of one that may have come to something good nothing is said,
/// so that a guess never stands where a model looks for the best.
fn foretold(stopped: &Past, history: &History, level: u64) -> Status {
    let (Status::Done(_), Some((rung, cost))) = (stopped.status, stopped.rungs.last()) else {
        return Status::Void;
    };
    let whole = history.trials.iter().rev();
    let both = whole.filter_map(|past| Some((past.at(*rung)?, past.at(level)?)));
    let mut known: Vec<(f64, f64)> = both.take(MOST_COMPARED).collect();
    if known.len() < ALIKE || kendall::tau(&known, f64::total_cmp) < TELLING {
        return Status::Void;
    }
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    let middle = known.get(known.len() / 2).map_or(f64::NAN, |known| known.1);
    known.sort_by(|a, b| (a.0 - cost).abs().total_cmp(&(b.0 - cost).abs()));
    let alike = known.iter().take(ALIKE).map(|known| known.1);
    let end = alike.sum::<f64>() / ALIKE as f64;
    if end >= middle {
        Status::Done(end)
    } else {
        Status::Void
    }
}

fn status_at(past: &Past, level: u64) -> Status {
    match (past.at(level), past.status) {
        (Some(cost), _) => Status::Done(cost),
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
            measured: false,
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

    /// Ten whole trials whose costs at rung 1 tell the end by a tenth, and stopped ones.
    #[test]
    fn a_stopped_trial_counts_as_those_that_were_like_it() {
        let mut history = History::default();
        for trial in 0..10 {
            history.begun(vec![trial as f64]);
            history.reached(trial, 1, trial as f64);
            history.reached(trial, 9, trial as f64 / 10.0);
            history.ended(trial, Done(trial as f64 / 10.0));
        }
        for (trial, cost) in [(10, 7.1), (11, 20.0), (12, 2.0)] {
            history.begun(vec![trial as f64]);
            history.reached(trial, 1, cost);
            history.ended(trial, Done(cost));
        }
        history.begun(vec![13.0]);
        history.reached(13, 1, 4.0);
        let mut levels = Levels {
            enough: 3,
            level: 0,
            top: 9,
            measured: true,
            seen: History::default(),
            mark: 0,
        };
        let (seen, _) = levels.seen(&history);
        let statuses: Vec<Status> = seen.trials[9..].iter().map(|past| past.status).collect();
        // The one under way is on its way to the top; what may be good is left open.
        assert_eq!(statuses[0], Done(0.9));
        let near =
            |status: Status, cost: f64| matches!(status, Done(end) if (end - cost).abs() < 1e-9);
        assert!(
            near(statuses[1], 0.7) && near(statuses[2], 0.8),
            "{statuses:?}"
        );
        assert_eq!(statuses[3..], [Void, Pending]);
        assert!(!levels.may_mislead(&history));
        // Where the rung tells nothing, nothing is guessed.
        for trial in 0..10 {
            history.reached(trial, 3, ((trial * 7) % 10) as f64);
        }
        history.begun(vec![14.0]);
        history.reached(14, 3, 9.0);
        history.ended(14, Done(9.0));
        assert_eq!(levels.seen(&history).0.trials[14].status, Void);
    }
}
