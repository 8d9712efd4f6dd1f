//! `conv1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moving::{Filters, Movement, as_image, check_padding, convolve, in_one_row, one};
use super::shared::{only, yes};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Activation, Initializer, Padding};

/// Cross-correlation with a kernel that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv1d {
    filters: usize,
    kernel: usize,
    #[serde(default = "one")]
    stride: usize,
    /// `valid`, `same`, zeros on both sides, or `[[before, after]]`.
    #[serde(default)]
    padding: Padding,
    /// Distance of the kernel's taps.
    #[serde(default = "one")]
    dilation: usize,
    /// Parts of the channels that have filters of their own; as many as channels: a depthwise convolution.
    #[serde(default = "one")]
    groups: usize,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

impl Layer for Conv1d {
    const WORD: &'static str = "conv1d";
    const ABOUT: &'static str = "`[channels, length]` to `[filters, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.filters, format!("{path}.filters"));
        found.at_least_one(self.kernel, format!("{path}.kernel"));
        found.at_least_one(self.stride, format!("{path}.stride"));
        found.at_least_one(self.dilation, format!("{path}.dilation"));
        found.at_least_one(self.groups, format!("{path}.groups"));
        check_padding(&self.padding, 1, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: in_one_row(self.kernel),
            stride: in_one_row(self.stride),
            dilation: in_one_row(self.dilation),
            padding: &self.padding,
            ceil: false,
            dimensions: 1,
        };
        convolve(at, &as_image(only(inputs)?)?, &self.filters(), &movement)
    }
}

impl Conv1d {
    fn filters(&self) -> Filters {
        Filters {
            filters: self.filters,
            groups: self.groups,
            activation: self.activation,
            use_bias: self.use_bias,
            kernel_initializer: self.kernel_initializer,
        }
    }
}
