//! The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2): a trial is stopped at
//! resource t if its best value until t is strictly worse than the median of the other trials' running
//! averages until t.
//!
//! In every period of `interval` epochs one result of a trial counts; its running average is the mean of
//! those. Compared are all others that have a result in the same period, however they fared since. Nobody
//! is stopped before `grace_period`, or while fewer than `min_trials` others can be compared.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::TrialId;
use trainyard_common::spec::SchedulerSpec;
use trainyard_common::spec::search::Mode;

use super::pace::{Judge, Paced};
use super::place::{Place, cost_of, order_of};

/// What a trial has told so far, as costs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    sum: f64,
    count: u32,
    best: Option<f64>,
}

impl Record {
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

/// The averages of one search.
#[derive(Debug, Clone)]
pub(super) struct Field {
    min_trials: usize,
    /// By period.
    averages: BTreeMap<u64, Averages>,
}

pub(super) type MedianStopping = Paced<Field>;

pub(super) fn of(spec: &SchedulerSpec, max: Option<u64>, mode: Mode) -> MedianStopping {
    let field = Field {
        min_trials: spec.min_trials.unwrap_or(SchedulerSpec::MIN_TRIALS) as usize,
        averages: BTreeMap::new(),
    };
    Paced::new(spec, max, mode, field)
}

impl Field {
    /// Whether the best cost is strictly worse than the median of the averages that were told.
    fn is_behind(&self, best: Option<f64>, period: u64) -> bool {
        let averages = self.averages.get(&period);
        let enough = averages.filter(|averages| averages.len() >= self.min_trials);
        let median = enough.and_then(Averages::median);
        median.is_some_and(|median| best.is_none_or(|best| best > median))
    }
}

impl Judge for Field {
    type Record = Record;

    fn fails(
        &mut self,
        trial: TrialId,
        period: u64,
        record: &mut Record,
        cost: Option<f64>,
    ) -> bool {
        if let Some(cost) = cost {
            record.tell(cost);
        }
        let fails = self.is_behind(record.best, period);
        if let Some(average) = record.average() {
            let averages = self.averages.entry(period).or_default();
            averages.insert((order_of(average + 0.0), trial));
        }
        fails
    }
}
