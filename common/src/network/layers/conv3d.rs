//! `conv3d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::check_triple;
use super::moving::{Filters, check_padding, one};
use super::shared::{only, yes};
use super::volumes::{Movement, convolve};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Activation, Initializer, Padding, Triple};

/// Cross-correlation with a kernel that moves over a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv3d {
    filters: usize,
    /// One number, or `[depth, height, width]`.
    kernel: Triple,
    #[serde(default = "Triple::one")]
    stride: Triple,
    /// `valid`, `same`, zeros on every side, `[depth, height, width]`, or `[before, after]` for each.
    #[serde(default)]
    padding: Padding,
    /// Distance of the kernel's taps.
    #[serde(default = "Triple::one")]
    dilation: Triple,
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

impl Layer for Conv3d {
    const WORD: &'static str = "conv3d";
    const ABOUT: &'static str =
        "`[channels, depth, height, width]` to `[filters, depth', height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.filters, format!("{path}.filters"));
        check_triple(self.kernel, format!("{path}.kernel"), found);
        check_triple(self.stride, format!("{path}.stride"), found);
        check_triple(self.dilation, format!("{path}.dilation"), found);
        found.at_least_one(self.groups, format!("{path}.groups"));
        check_padding(&self.padding, 3, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let movement = Movement {
            what: "kernel",
            size: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: &self.padding,
            ceil: false,
        };
        convolve(at, only(inputs)?, &self.filters(), &movement)
    }
}

impl Conv3d {
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
