//! `conv1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{activate, as_image, bias, only, softmax_is_flat, yes};
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};
use crate::network::shape::Window;
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
        if self.filters == 0 {
            return Err(Problem::Zero { field: "filters" });
        }
        let (kernel, stride) = (Pair::Each([1, self.kernel]), Pair::Each([1, self.stride]));
        let window = Window::over(&image.shape, "kernel", kernel, stride, self.padding)?;
        let (channels, filters) = (image.shape[0], self.filters);
        let shape = vec![filters, window.out_width];
        softmax_is_flat(self.activation, &shape)?;
        let relu = self.activation == Activation::Relu;
        let op = Op::Conv(ops::Conv {
            channels,
            filters,
            window,
            bias: self.use_bias,
            relu,
        });
        let fans = (
            channels.saturating_mul(self.kernel),
            filters.saturating_mul(self.kernel),
        );
        let kernel = vec![filters, channels, self.kernel];
        let kernel = NewParameter::drawn("kernel", kernel, self.kernel_initializer, fans);
        let parameters = [kernel].into_iter().chain(bias(self.use_bias, filters));
        let output = at.apply(op, &[&image], shape, parameters.collect())?;
        match relu {
            true => Ok(output),
            false => activate(at, output, self.activation, None),
        }
    }
}
