//! `conv2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moving::{Filters, Movement, check_padding, convolve, one};
use super::shared::{check_pair, only, yes};
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
    /// `valid`, `same`, zeros on every side, `[height, width]`, or `[[top, bottom], [left, right]]`.
    #[serde(default)]
    padding: Padding,
    /// Distance of the kernel's taps.
    #[serde(default = "Pair::one")]
    dilation: Pair,
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

impl Layer for Conv2d {
    const WORD: &'static str = "conv2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[filters, height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.filters, format!("{path}.filters"));
        check_pair(self.kernel, format!("{path}.kernel"), found);
        check_pair(self.stride, format!("{path}.stride"), found);
        check_pair(self.dilation, format!("{path}.dilation"), found);
        found.at_least_one(self.groups, format!("{path}.groups"));
        check_padding(&self.padding, 2, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: &self.padding,
            ceil: false,
            dimensions: 2,
        };
        convolve(at, only(inputs)?, &self.filters(), &movement)
    }
}

impl Conv2d {
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
