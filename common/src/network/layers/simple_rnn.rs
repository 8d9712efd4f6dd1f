//! `simple_rnn`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recurrent::{Cells, orthogonal, tanh};
use super::shared::{only, yes};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Cell;
use crate::network::words::{Activation, Initializer};

/// h = activation(x W + h' U + b) along a sequence; Elman 1990.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SimpleRnn {
    units: usize,
    #[serde(default = "tanh")]
    activation: Activation,
    /// The outputs of all steps, otherwise that of the last.
    #[serde(default)]
    return_sequences: bool,
    /// From the last step to the first; outputs come in that order.
    #[serde(default)]
    go_backwards: bool,
    /// A step all of whose features are this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask_value: Option<f64>,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
    #[serde(default = "orthogonal")]
    recurrent_initializer: Initializer,
}

impl SimpleRnn {
    pub(super) fn cells(&self) -> Cells {
        Cells {
            cell: Cell::Simple,
            units: self.units,
            activation: self.activation,
            recurrent_activation: None,
            return_sequences: self.return_sequences,
            go_backwards: self.go_backwards,
            use_bias: self.use_bias,
            ones: None,
            mask_value: self.mask_value,
            kernel_initializer: self.kernel_initializer,
            recurrent_initializer: self.recurrent_initializer,
        }
    }
}

impl Layer for SimpleRnn {
    const WORD: &'static str = "simple_rnn";
    const ABOUT: &'static str = "`[steps, features]` to `[units]` or `[steps, units]`";

    fn check(&self, path: &str, found: &mut Findings) {
        self.cells().check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        self.cells().run(at, only(inputs)?, "", false)
    }
}
