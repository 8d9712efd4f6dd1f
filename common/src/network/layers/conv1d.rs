//! `conv1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{Filters, as_image, convolve, only, yes};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Activation, Initializer, Padding, Pair};

/// Cross-correlation with a kernel that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv1d {
    filters: usize,
    kernel: usize,
    #[serde(default = "one")]
    stride: usize,
    #[serde(default)]
    padding: Padding,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

fn one() -> usize {
    1
}

impl Layer for Conv1d {
    const WORD: &'static str = "conv1d";
    const ABOUT: &'static str = "`[channels, length]` to `[filters, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.filters, format!("{path}.filters"));
        found.at_least_one(self.kernel, format!("{path}.kernel"));
        found.at_least_one(self.stride, format!("{path}.stride"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let image = as_image(only(inputs)?)?;
        let one_row = |along: usize| Pair::Each([1, along]);
        let window = (one_row(self.kernel), one_row(self.stride), self.padding);
        convolve(at, &image, &self.filters(), window, 1)
    }
}

impl Conv1d {
    fn filters(&self) -> Filters {
        Filters {
            filters: self.filters,
            activation: self.activation,
            use_bias: self.use_bias,
            kernel_initializer: self.kernel_initializer,
        }
    }
}
