//! A rate that falls along half a wave, once or again and again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Per, Position, Range, Schedule, check_lowest, check_period, half_cosine};

/// From the optimizer's rate to `min_lr` along half a cosine wave (Loshchilov and Hutter 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineSchedule {
    /// Steps (or epochs) of the wave; then the rate stays. Unset: the whole training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// After each period the rate begins anew. Needs `period`.
    #[serde(default)]
    pub restarts: bool,
    /// Each period is so many times as long as the one before.
    #[serde(default = "once")]
    pub period_factor: u64,
    #[serde(default)]
    pub min_lr: f64,
    #[serde(default = "Per::step")]
    pub per: Per,
}

fn once() -> u64 {
    1
}

impl Schedule for CosineSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        check_period(path, self.period, found);
        found.range(
            path,
            "period_factor",
            self.period_factor as f64,
            Range::Count,
        );
        check_lowest(path, self.min_lr, found);
        found.expect(
            !self.restarts || self.period.is_some(),
            format!("{path}.restarts"),
            "true without a `period`",
            "true with `period`, the length of the first one",
        );
    }

    fn rate(&self, base: f64, at: Position) -> f64 {
        let (done, total) = at.count(self.per);
        let period = self.period.unwrap_or(total).max(1);
        let (place, period) = match self.restarts {
            true => self.place(done, period),
            false => (done.min(period), period),
        };
        half_cosine(base, self.min_lr, place as f64 / period as f64)
    }
}

impl CosineSchedule {
    /// How far the period under way is, and its length.
    fn place(&self, done: u64, first: u64) -> (u64, u64) {
        if self.period_factor <= 1 {
            return (done % first, first);
        }
        let (mut place, mut period) = (done, first);
        // At least twice as long each time, so that few of them pass.
        while place >= period {
            place -= period;
            period = period.saturating_mul(self.period_factor);
        }
        (place, period)
    }
}
