//! Adam with decoupled weight decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range, check_moments};

/// As Adam, and p <- (1 - learning_rate weight_decay) p (Loshchilov and Hutter 2019, algorithm 2).
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
    /// Divide by the largest v so far (Reddi et al. 2018).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amsgrad: bool,
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
