//! The learning rate of every step of a run: warm-up, then the schedule.

use serde::{Deserialize, Serialize};
use trainyard_common::spec::TrainingSpec;
use trainyard_common::spec::schedules::{
    ConstantSchedule, PlateauSchedule, PlateauState, Position, ScheduleSpec, WarmupSpec,
};

use super::Metrics;

/// A function of the spec and the step; with a plateau also of the metrics of the epochs so far.
#[derive(Debug)]
pub(crate) struct Rates {
    base: f64,
    schedule: ScheduleSpec,
    warmup: Option<WarmupSpec>,
    /// Of the whole training.
    steps: u64,
    steps_per_epoch: u64,
    seen: PlateauState,
}

/// What a plateau has seen, exact, for a checkpoint: JSON numbers have no infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Bits of f64 numbers.
    scale: u64,
    best: u64,
    waited: u32,
    cooling: u32,
}

impl Rates {
    pub(crate) fn new(training: &TrainingSpec, steps_per_epoch: u64) -> Self {
        let constant = || ScheduleSpec::Constant(ConstantSchedule {});
        Self {
            base: training.optimizer.learning_rate(),
            schedule: training.schedule.clone().unwrap_or_else(constant),
            warmup: training.warmup.clone(),
            steps: u64::from(training.epochs).saturating_mul(steps_per_epoch),
            steps_per_epoch,
            seen: PlateauState::default(),
        }
    }

    /// The rate of the step that is taken after so many others.
    pub(crate) fn at(&self, step: u64) -> f64 {
        self.of(self.base, step)
    }

    /// The optimizer's own, which all others are but for parameters that have one of their own.
    pub(crate) fn base(&self) -> f64 {
        self.base
    }

    /// What becomes of a rate in the step that is taken after so many others.
    pub(crate) fn of(&self, base: f64, step: u64) -> f64 {
        let Some(warmup) = &self.warmup else {
            return self.scheduled(base, step, self.steps);
        };
        let length = warmup.steps(self.steps_per_epoch);
        let left = self.steps.saturating_sub(length);
        match step.checked_sub(length) {
            Some(step) => self.scheduled(base, step, left),
            None => self.scheduled(base, 0, left) * warmup.factor(step, length),
        }
    }

    fn scheduled(&self, base: f64, step: u64, steps: u64) -> f64 {
        if let Some(plateau) = self.plateau() {
            return plateau.scaled(base, self.seen);
        }
        let at = Position {
            step,
            steps,
            steps_per_epoch: self.steps_per_epoch,
        };
        self.schedule.rate(base, at)
    }

    fn plateau(&self) -> Option<&PlateauSchedule> {
        match &self.schedule {
            ScheduleSpec::Plateau(plateau) => Some(plateau),
            _ => None,
        }
    }

    /// The metric that the rates depend on.
    pub(crate) fn watched(&self) -> Option<&str> {
        self.plateau().map(|plateau| plateau.metric.as_str())
    }

    /// An epoch is complete and has these metrics.
    pub(crate) fn epoch_ended(&mut self, metrics: &Metrics) {
        let Some(plateau) = self.plateau() else {
            return;
        };
        let watched = metrics.iter().find(|(name, _)| *name == plateau.metric);
        if let Some(&(_, value)) = watched {
            self.seen = plateau.after(self.seen, value);
        }
    }

    /// For a checkpoint; `None` if the rates depend on nothing that was seen.
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.plateau().map(|_| Seen {
            scale: self.seen.scale.to_bits(),
            best: self.seen.best.to_bits(),
            waited: self.seen.waited,
            cooling: self.seen.cooling,
        })
    }

    /// From a checkpoint; `None`: nothing was seen.
    pub(crate) fn set_seen(&mut self, seen: Option<Seen>) {
        self.seen = seen.map_or_else(PlateauState::default, |seen| PlateauState {
            scale: f64::from_bits(seen.scale),
            best: f64::from_bits(seen.best),
            waited: seen.waited,
            cooling: seen.cooling,
        });
    }
}

#[cfg(test)]
mod tests;
