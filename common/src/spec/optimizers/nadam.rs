//! Adam with Nesterov momentum.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range, check_moments};

/// Adam with Nesterov momentum, which grows over the steps: beta1 (1 - 0.96^(t momentum_decay) / 2) at step t (Dozat 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NadamSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "super::default_beta1")]
    pub beta1: f64,
    #[serde(default = "super::default_beta2")]
    pub beta2: f64,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
    #[serde(default = "default_momentum_decay")]
    pub momentum_decay: f64,
}

/// The paper's and PyTorch's; in Keras it is fixed at 1.
fn default_momentum_decay() -> f64 {
    0.004
}

impl Optimizer for NadamSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        check_moments(path, (self.beta1, self.beta2), self.epsilon, found);
        let decay = self.momentum_decay;
        found.range(path, "momentum_decay", decay, Range::NotNegative);
    }
}
