//! `conv2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{Filters, check_pair, convolve, only, yes};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Activation, Initializer, Padding, Pair};

/// Cross-correlation with a kernel that moves over an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv2d {
    filters: usize,
    /// One number, or `[height, width]`.
    kernel: Pair,
    #[serde(default = "Pair::one")]
    stride: Pair,
    #[serde(default)]
    padding: Padding,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

impl Layer for Conv2d {
    const WORD: &'static str = "conv2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[filters, height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.filters, format!("{path}.filters"));
        check_pair(self.kernel, format!("{path}.kernel"), found);
        check_pair(self.stride, format!("{path}.stride"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let window = (self.kernel, self.stride, self.padding);
        convolve(at, only(inputs)?, &self.filters(), window, 2)
    }
}

impl Conv2d {
    fn filters(&self) -> Filters {
        Filters {
            filters: self.filters,
            activation: self.activation,
            use_bias: self.use_bias,
            kernel_initializer: self.kernel_initializer,
        }
    }
}
