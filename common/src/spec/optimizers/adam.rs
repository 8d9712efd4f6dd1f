//! Adam.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, check_moments};

/// Kingma and Ba 2015, algorithm 1.
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
}

impl Default for AdamSpec {
    fn default() -> Self {
        Self {
            learning_rate: super::default_learning_rate(),
            beta1: super::default_beta1(),
            beta2: super::default_beta2(),
            epsilon: super::default_epsilon(),
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
