//! Adagrad.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Optimizer, Range};

/// a <- a + g^2; p <- p - learning_rate g / (sqrt(a) + epsilon) (Duchi, Hazan and Singer 2011).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdagradSpec {
    #[serde(default = "super::default_learning_rate")]
    pub learning_rate: f64,
    /// What the sum of squares begins with.
    #[serde(default = "default_accumulator")]
    pub initial_accumulator_value: f64,
    #[serde(default = "super::default_epsilon")]
    pub epsilon: f64,
}

/// Keras's.
fn default_accumulator() -> f64 {
    0.1
}

impl Optimizer for AdagradSpec {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self, path: &str, found: &mut Findings) {
        let initial = self.initial_accumulator_value;
        found.range(
            path,
            "initial_accumulator_value",
            initial,
            Range::NotNegative,
        );
        found.range(path, "epsilon", self.epsilon, Range::Positive);
    }
}
