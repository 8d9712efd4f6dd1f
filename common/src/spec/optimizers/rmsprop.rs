//! RMSprop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range};

/// s <- rho s + (1 - rho) g^2; p <- p - learning_rate g / (sqrt(s) + epsilon) (Hinton 2012, lecture 6e).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RmspropSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    #[serde(default = "default_rho")]
    pub rho: f64,
    /// b <- momentum b + g / (sqrt(s) + epsilon); p <- p - learning_rate b.
    #[serde(default)]
    pub momentum: f64,
    /// Divide by the deviation: s less the square of the mean gradient (Graves 2013).
    #[serde(default)]
    pub centered: bool,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
}

/// Keras's.
fn default_rho() -> f64 {
    0.9
}

impl Optimizer for RmspropSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "rho", self.rho, Range::Share);
        found.range(path, "momentum", self.momentum, Range::Share);
        found.range(path, "epsilon", self.epsilon, Range::Positive);
    }
}
