//! Lion.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range};

/// p <- p - learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay p); m <- beta2 m + (1 - beta2) g (Chen et al.
/// 2023, algorithm 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LionSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "super::default_beta1")]
    pub beta1: f64,
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    #[serde(default)]
    pub weight_decay: f64,
}

/// The paper's and Keras's.
fn default_beta2() -> f64 {
    0.99
}

impl Optimizer for LionSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "beta1", self.beta1, Range::Share);
        found.range(path, "beta2", self.beta2, Range::Share);
        found.range(path, "weight_decay", self.weight_decay, Range::NotNegative);
    }
}
