//! `dense`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{activate, bias, only, yes};
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};
use crate::network::words::{Activation, Initializer};

/// y = activation(x W + b); of a sequence, each step by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dense {
    units: usize,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

impl Layer for Dense {
    const WORD: &'static str = "dense";
    const ABOUT: &'static str =
        "`[features]` to `[units]`, `[steps, features]` to `[steps, units]`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.units, format!("{path}.units"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let (features, mut shape) = match input.shape[..] {
            [features] => (features, vec![]),
            [steps, features] => (features, vec![steps]),
            _ => return Err(Problem::NeedsFlat(input.shape.clone())),
        };
        let units = self.units;
        shape.push(units);
        if units == 0 {
            return Err(Problem::Zero { field: "units" });
        }
        let relu = self.activation == Activation::Relu;
        let op = Op::Dense(ops::Dense {
            inputs: features,
            units,
            bias: self.use_bias,
            relu,
        });
        let fans = (features, units);
        let kernel = NewParameter::drawn(
            "kernel",
            vec![features, units],
            self.kernel_initializer,
            fans,
        );
        let parameters = [kernel].into_iter().chain(bias(self.use_bias, units));
        let output = at.apply(op, &[input], shape, parameters.collect())?;
        match relu {
            true => Ok(output),
            false => activate(at, output, self.activation, None),
        }
    }
}
