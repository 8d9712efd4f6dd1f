//! Adadelta.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range};

/// s <- rho s + (1 - rho) g^2; d = g sqrt(u + epsilon) / sqrt(s + epsilon); u <- rho u + (1 - rho) d^2;
/// p <- p - learning_rate d (Zeiler 2012, algorithm 1, where the rate is 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdadeltaSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "default_rho")]
    pub rho: f64,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
}

/// Keras's, and the paper's.
fn default_rho() -> f64 {
    0.95
}

impl Optimizer for AdadeltaSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "rho", self.rho, Range::Share);
        found.range(path, "epsilon", self.epsilon, Range::Positive);
    }
}
