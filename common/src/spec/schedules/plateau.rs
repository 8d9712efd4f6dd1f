//! A rate that falls when a metric no longer gets better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Position, Range, Schedule};
use crate::spec::search::Mode;

/// Multiplied by `factor` once `metric` has not got better for `patience` epochs, never below `min_lr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlateauSchedule {
    /// A metric of the epoch that the trainer reports.
    #[serde(default = "default_metric")]
    pub metric: String,
    /// Unset: `maximize` for accuracies, otherwise `minimize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(default = "default_factor")]
    pub factor: f64,
    #[serde(default = "default_patience")]
    pub patience: u32,
    /// By more than this a value is better than the best.
    #[serde(default = "default_min_delta")]
    pub min_delta: f64,
    /// Epochs after a fall that do not count.
    #[serde(default)]
    pub cooldown: u32,
    #[serde(default)]
    pub min_lr: f64,
}

// All as Keras has them.
fn default_metric() -> String {
    "validation_loss".to_owned()
}

fn default_factor() -> f64 {
    0.1
}

fn default_patience() -> u32 {
    10
}

fn default_min_delta() -> f64 {
    1e-4
}

/// What a plateau has seen so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauState {
    /// What the optimizer's rate is multiplied by.
    pub scale: f64,
    /// The best cost so far; infinite before the first.
    pub best: f64,
    /// Epochs without a better one.
    pub waited: u32,
    /// Epochs that do not count any more.
    pub cooling: u32,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self {
            scale: 1.0,
            best: f64::INFINITY,
            waited: 0,
            cooling: 0,
        }
    }
}

impl PlateauSchedule {
    /// Whether larger values of the metric are better.
    pub fn mode(&self) -> Mode {
        self.mode
            .unwrap_or(match self.metric.ends_with("accuracy") {
                true => Mode::Maximize,
                false => Mode::Minimize,
            })
    }

    /// After an epoch in which the metric came to `value`. As PyTorch's `ReduceLROnPlateau`, but for the
    /// patience: there one epoch more passes.
    pub fn after(&self, state: PlateauState, value: f64) -> PlateauState {
        let mut next = state;
        let cost = self.mode().cost(value);
        if cost < state.best - self.min_delta {
            next.best = cost;
            next.waited = 0;
        } else {
            next.waited += 1;
        }
        if state.cooling > 0 {
            next.cooling -= 1;
            next.waited = 0;
        }
        if next.waited >= self.patience {
            next.scale *= self.factor;
            next.cooling = self.cooldown;
            next.waited = 0;
        }
        next
    }

    /// The rate for what was seen; that of an optimizer that begins below `min_lr` stays.
    pub fn scaled(&self, base: f64, state: PlateauState) -> f64 {
        (base * state.scale).max(self.min_lr.min(base))
    }
}

impl Schedule for PlateauSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        found.expect(
            self.factor > 0.0 && self.factor < 1.0,
            format!("{path}.factor"),
            self.factor,
            "numbers above 0, below 1",
        );
        found.range(path, "patience", f64::from(self.patience), Range::Count);
        found.range(path, "min_delta", self.min_delta, Range::NotNegative);
        found.range(path, "min_lr", self.min_lr, Range::NotNegative);
    }

    /// Before anything was seen.
    fn rate(&self, base: f64, _: Position) -> f64 {
        base
    }
}
