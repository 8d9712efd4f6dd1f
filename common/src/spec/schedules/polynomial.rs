//! A rate that falls as a power of what is left.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Per, Position, Range, Schedule, check_lowest, check_period};

/// min_lr + (learning_rate - min_lr) (1 - t / period)^power; linear with the power 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolynomialSchedule {
    /// Steps (or epochs) in which it falls; then the rate stays. Unset: the whole training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    #[serde(default = "linear")]
    pub power: f64,
    #[serde(default)]
    pub min_lr: f64,
    #[serde(default = "Per::step")]
    pub per: Per,
}

fn linear() -> f64 {
    1.0
}

impl Schedule for PolynomialSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        check_period(path, self.period, found);
        found.range(path, "power", self.power, Range::Positive);
        check_lowest(path, self.min_lr, found);
    }

    fn rate(&self, base: f64, at: Position) -> f64 {
        let (done, total) = at.count(self.per);
        let period = self.period.unwrap_or(total).max(1);
        let left = 1.0 - done.min(period) as f64 / period as f64;
        self.min_lr + (base - self.min_lr) * libm::pow(left, self.power)
    }
}
