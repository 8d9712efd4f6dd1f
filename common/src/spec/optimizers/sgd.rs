//! Stochastic gradient descent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range};

/// v <- momentum v + g; p <- p - learning_rate v (with `nesterov`: learning_rate (g + momentum v)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SgdSpec {
    pub learning_rate: f64,
    #[serde(default)]
    pub momentum: f64,
    #[serde(default)]
    pub nesterov: bool,
    /// v <- momentum v + (1 - dampening) g, but for the first step.
    #[serde(default, skip_serializing_if = "is_none")]
    pub dampening: f64,
    /// Added to the gradient: weight_decay * p.
    #[serde(default)]
    pub weight_decay: f64,
}

/// Left out of what is stored: workers of before it know no such field.
fn is_none(dampening: &f64) -> bool {
    *dampening == 0.0
}

impl Optimizer for SgdSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "momentum", self.momentum, Range::Share);
        found.expect(
            !self.nesterov || self.momentum > 0.0,
            format!("{path}.nesterov"),
            "true without momentum",
            "true with `momentum` above 0",
        );
        found.range(path, "dampening", self.dampening, Range::Share);
        found.expect(
            !self.nesterov || self.dampening == 0.0,
            format!("{path}.dampening"),
            format!("{} with `nesterov`", self.dampening),
            "0 with `nesterov`",
        );
        found.range(path, "weight_decay", self.weight_decay, Range::NotNegative);
    }
}
