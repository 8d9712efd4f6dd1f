//! The rise of the rate before a schedule begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Range};

/// The rate rises linearly from `start_factor` times that of the schedule's first step; the schedule begins then. One of `steps` and
/// `epochs` is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmupSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    #[serde(default)]
    pub start_factor: f64,
}

impl WarmupSpec {
    /// Its length.
    pub fn steps(&self, steps_per_epoch: u64) -> u64 {
        let epochs = self.epochs.unwrap_or(0).saturating_mul(steps_per_epoch);
        self.steps.unwrap_or(epochs)
    }

    /// What the rate is multiplied by in its step `step` of `steps`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        self.start_factor + (1.0 - self.start_factor) * (step as f64 / steps as f64)
    }

    pub(in crate::spec) fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "start_factor", self.start_factor, Range::Share);
        let given = match (self.steps, self.epochs) {
            (Some(_), None) | (None, Some(_)) => return,
            (None, None) => "neither",
            (Some(_), Some(_)) => "both",
        };
        found.add(
            path,
            format!("{given} of `steps` and `epochs` given; accepted: one of them"),
        );
    }
}
