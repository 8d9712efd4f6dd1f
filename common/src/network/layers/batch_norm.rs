//! `batch_norm`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};

/// Normalizes each feature (`[features]`) or channel (images) over the samples of a virtual shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchNorm {
    /// Share of the old running statistic that is kept at each step (as Keras has it), in [0, 1).
    #[serde(default = "default_momentum")]
    momentum: f64,
    #[serde(default = "default_epsilon")]
    epsilon: f64,
}

fn default_momentum() -> f64 {
    0.99
}

fn default_epsilon() -> f64 {
    1e-3
}

impl Layer for BatchNorm {
    const WORD: &'static str = "batch_norm";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.momentum, format!("{path}.momentum"));
        found.positive(self.epsilon, format!("{path}.epsilon"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        if !(0.0..1.0).contains(&self.momentum) {
            let given = self.momentum;
            return Err(Problem::Other(format!(
                "momentum {given}; accepted: [0, 1)"
            )));
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            let given = self.epsilon;
            return Err(Problem::Other(format!(
                "epsilon {given}; accepted: above 0"
            )));
        }
        let channels = input.shape[0];
        let op = Op::BatchNorm(ops::BatchNorm {
            channels,
            area: input.shape[1..].iter().product(),
            momentum: self.momentum,
            epsilon: self.epsilon,
            frozen: false,
        });
        let parameters = vec![
            NewParameter::constant("gamma", vec![channels], 1.0),
            NewParameter::constant("beta", vec![channels], 0.0),
        ];
        at.apply(op, &[input], input.shape.clone(), parameters)
    }
}
