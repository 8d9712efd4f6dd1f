//! `conv2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{activate, bias, check_pair, only, softmax_is_flat, yes};
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};
use crate::network::shape::Window;
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
        let input = only(inputs)?;
        if self.filters == 0 {
            return Err(Problem::Zero { field: "filters" });
        }
        let window = Window::over(
            &input.shape,
            "kernel",
            self.kernel,
            self.stride,
            self.padding,
        )?;
        let (channels, filters, taps) = (input.shape[0], self.filters, window.taps());
        let shape = vec![filters, window.out_height, window.out_width];
        softmax_is_flat(self.activation, &shape)?;
        let relu = self.activation == Activation::Relu;
        let op = Op::Conv(ops::Conv {
            channels,
            filters,
            window,
            bias: self.use_bias,
            relu,
        });
        let fans = (channels.saturating_mul(taps), filters.saturating_mul(taps));
        let kernel = vec![filters, channels, window.kh, window.kw];
        let kernel = NewParameter::drawn("kernel", kernel, self.kernel_initializer, fans);
        let parameters = [kernel].into_iter().chain(bias(self.use_bias, filters));
        let output = at.apply(op, &[input], shape, parameters.collect())?;
        match relu {
            true => Ok(output),
            false => activate(at, output, self.activation, None),
        }
    }
}
