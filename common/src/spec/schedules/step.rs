//! A rate that falls in steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Per, Position, Range, Schedule};

/// Multiplied by `gamma` every `step_size` epochs (or steps), or at each of the `milestones`; one of the two is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSchedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<u64>,
    /// In any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milestones: Option<Vec<u64>>,
    #[serde(default = "default_gamma")]
    pub gamma: f64,
    #[serde(default = "Per::epoch")]
    pub per: Per,
}

/// PyTorch's.
fn default_gamma() -> f64 {
    0.1
}

impl Schedule for StepSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "gamma", self.gamma, Range::Factor);
        match (self.step_size, &self.milestones) {
            (Some(size), None) => found.range(path, "step_size", size as f64, Range::Count),
            (None, Some(_)) => {}
            (given, _) => found.add(
                path,
                format!(
                    "{} of `step_size` and `milestones` given; accepted: one of them",
                    given.map_or("neither", |_| "both")
                ),
            ),
        }
    }

    fn rate(&self, base: f64, at: Position) -> f64 {
        let (done, _) = at.count(self.per);
        let by_size = self.step_size.map(|size| done / size.max(1));
        let falls = by_size.unwrap_or_else(|| {
            let milestones = self.milestones.iter().flatten();
            milestones.filter(|milestone| **milestone <= done).count() as u64
        });
        base * libm::pow(self.gamma, falls as f64)
    }
}
