//! Adam.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, check_moments};

/// m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2; p <- p - learning_rate m_hat / (sqrt(v_hat) + epsilon)
/// (Kingma and Ba 2015, algorithm 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "super::default_beta1")]
    pub beta1: f64,
    #[serde(default = "super::default_beta2")]
    pub beta2: f64,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
    /// Divide by the largest v so far (Reddi et al. 2018).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amsgrad: bool,
}

impl Default for AdamSpec {
    fn default() -> Self {
        Self {
            learning_rate: super::default_learning_rate(),
            beta1: super::default_beta1(),
            beta2: super::default_beta2(),
            epsilon: super::default_epsilon(),
            amsgrad: false,
        }
    }
}

impl Optimizer for AdamSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        check_moments(path, (self.beta1, self.beta2), self.epsilon, found);
    }
}
