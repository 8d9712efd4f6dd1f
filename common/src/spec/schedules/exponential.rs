//! A rate that falls by the same factor all the time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Per, Position, Range, Schedule};

/// Multiplied by `gamma` after every epoch (or step).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExponentialSchedule {
    pub gamma: f64,
    #[serde(default = "Per::epoch")]
    pub per: Per,
}

impl Schedule for ExponentialSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "gamma", self.gamma, Range::Factor);
    }

    fn rate(&self, base: f64, at: Position) -> f64 {
        let (done, _) = at.count(self.per);
        base * libm::pow(self.gamma, done as f64)
    }
}
