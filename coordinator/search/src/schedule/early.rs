//! Early stopping of each trial by itself: worse than a threshold, or without improvement for too long.
//!
//! In every period of `interval` epochs one result of a trial counts. From `grace_period` on, a trial is
//! stopped when a result is worse than `threshold`, or when `patience` results in a row did not improve on
//! the best before them by more than `min_delta`. A result without a finite value is worse than any
//! threshold, and no improvement.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::SchedulerSpec;
use trainyard_common::spec::search::Mode;

use super::pace::{Judge, Paced};
use super::place::cost;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// The lowest cost that counted as an improvement.
    best: Option<f64>,
    /// Results since then.
    idle: u32,
}

/// The bounds of one search.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// As a cost.
    threshold: Option<f64>,
    patience: Option<u32>,
    min_delta: f64,
}

pub(super) type EarlyStopping = Paced<Bounds>;

pub(super) fn of(spec: &SchedulerSpec, max: Option<u64>, mode: Mode) -> EarlyStopping {
    let bounds = Bounds {
        threshold: spec.threshold.map(|value| cost(mode, value)),
        patience: spec.patience,
        min_delta: spec.min_delta.unwrap_or(0.0),
    };
    Paced::new(spec, max, mode, bounds)
}

impl Judge for Bounds {
    type Record = Record;

    fn fails(
        &mut self,
        _trial: TrialId,
        _period: u64,
        record: &mut Record,
        cost: Option<f64>,
    ) -> bool {
        let improves = |cost: &f64| record.best.is_none_or(|best| *cost < best - self.min_delta);
        match cost.filter(improves) {
            Some(cost) => (record.best, record.idle) = (Some(cost), 0),
            None => record.idle = record.idle.saturating_add(1),
        }
        let over = |bound: f64| cost.is_none_or(|cost| cost > bound);
        let tired = |patience| record.idle >= patience;
        self.threshold.is_some_and(over) || self.patience.is_some_and(tired)
    }
}
