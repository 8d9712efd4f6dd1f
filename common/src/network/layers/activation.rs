//! `activation`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{activate, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Activation;

/// A function of each value; softmax is one of the features of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivationLayer {
    function: Activation,
    /// Slope below 0 of `leaky_relu` (default 0.3, as Keras) and scale of `elu` (default 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
}

impl Layer for ActivationLayer {
    const WORD: &'static str = "activation";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        let Some(alpha) = self.alpha else { return };
        found.expect(
            matches!(self.function, Activation::LeakyRelu | Activation::Elu),
            format!("{path}.alpha"),
            alpha,
            "`alpha` with leaky_relu and elu only",
        );
        found.positive(alpha, format!("{path}.alpha"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        activate(at, only(inputs)?.clone(), self.function, self.alpha)
    }
}
