//! Adam with decoupled weight decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range, check_moments};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamwSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "super::default_beta1")]
    pub beta1: f64,
    #[serde(default = "super::default_beta2")]
    pub beta2: f64,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
}

/// PyTorch's.
fn default_weight_decay() -> f64 {
    0.01
}

impl Optimizer for AdamwSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        check_moments(path, (self.beta1, self.beta2), self.epsilon, found);
        found.range(path, "weight_decay", self.weight_decay, Range::NotNegative);
    }
}
