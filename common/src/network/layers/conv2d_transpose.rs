//! `conv2d_transpose`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moving::{Filters, check_padding, one};
use super::shared::{activate, bias, check_pair, only, yes};
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{Conv, ConvTranspose, Op};
use crate::network::shape::{Moves, Window};
use crate::network::words::{Activation, Border, Initializer, Padding, Pair};

/// The adjoint of a convolution: each pixel adds the kernel, times its value, to a larger image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conv2dTranspose {
    filters: usize,
    /// One number, or `[height, width]`.
    kernel: Pair,
    #[serde(default = "Pair::one")]
    stride: Pair,
    /// What is cut away: `valid` nothing, `same` so much that stride times the size is left, or as conv2d's.
    #[serde(default)]
    padding: Padding,
    /// More rows and columns at the end; less than the stride.
    #[serde(default = "none")]
    output_padding: Pair,
    #[serde(default = "Pair::one")]
    dilation: Pair,
    #[serde(default = "one")]
    groups: usize,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

fn none() -> Pair {
    Pair::Both(0)
}

impl Layer for Conv2dTranspose {
    const WORD: &'static str = "conv2d_transpose";
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
        let input = only(inputs)?;
        let [channels, height, width] = input.shape[..] else {
            return Err(Problem::NeedsImage(input.shape.clone()));
        };
        self.filters().channels_of(channels)?;
        let window = self.window([height, width])?;
        let depth = self.filters / self.groups;
        let conv = Conv {
            channels: self.filters,
            filters: channels,
            groups: self.groups,
            window,
            bias: false,
            relu: false,
        };
        let taps = window.taps();
        let fans = (depth.saturating_mul(taps), channels.saturating_mul(taps));
        let kernel = vec![channels, depth, window.kh, window.kw];
        let kernel = NewParameter::drawn("kernel", kernel, self.kernel_initializer, fans);
        let bias = bias(self.use_bias, self.filters);
        let op = Op::ConvTranspose(ConvTranspose {
            conv,
            bias: self.use_bias,
        });
        let shape = vec![self.filters, window.height, window.width];
        let parameters = [kernel].into_iter().chain(bias).collect();
        let output = at.apply(op, &[input], shape, parameters)?;
        activate(at, output, self.activation, None)
    }
}

impl Conv2dTranspose {
    fn filters(&self) -> Filters {
        Filters {
            filters: self.filters,
            groups: self.groups,
            activation: self.activation,
            use_bias: self.use_bias,
            kernel_initializer: self.kernel_initializer,
        }
    }

    /// The window of the convolution that goes from the larger image to one of `size`.
    fn window(&self, size: [usize; 2]) -> Result<Window, Problem> {
        let each = |pair: Pair| <[usize; 2]>::from(pair.get());
        let (kernel, stride) = (each(self.kernel), each(self.stride));
        let (dilation, more) = (each(self.dilation), each(self.output_padding));
        let mut image = vec![self.filters];
        let mut borders = [Border::Valid; 2];
        for at in 0..2 {
            let border = self.padding.border(2, at).ok_or_else(|| {
                Problem::Other(format!(
                    "padding {} is not for two dimensions",
                    self.padding
                ))
            })?;
            borders[at] = border;
            if more[at] > 0 && more[at] >= stride[at] {
                return Err(Problem::Other(format!(
                    "output_padding {} given; accepted are numbers below the stride, {}",
                    more[at], stride[at]
                )));
            }
            let length = length(
                size[at],
                (kernel[at], stride[at], dilation[at]),
                border,
                more[at],
            );
            let length = length.ok_or_else(|| {
                Problem::Other(format!(
                    "from {size:?} it would put out nothing, or too much, with padding {} and output_padding {more:?}",
                    self.padding
                ))
            })?;
            image.push(length);
        }
        let moves = Moves {
            what: "kernel",
            size: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            borders,
            ceil: false,
        };
        let window = Window::over(&image, moves)?;
        match [window.out_height, window.out_width] == size {
            true => Ok(window),
            false => Err(Problem::Other(format!(
                "output_padding {more:?} given; accepted with padding same is 0"
            ))),
        }
    }
}

/// Of the larger image along one dimension.
fn length(
    n: usize,
    (kernel, stride, dilation): (usize, usize, usize),
    border: Border,
    more: usize,
) -> Option<usize> {
    let (before, after) = match border {
        Border::Same => return n.checked_mul(stride)?.checked_add(more),
        Border::Valid => (0, 0),
        Border::Around(before, after) => (before, after),
    };
    let reach = kernel
        .checked_sub(1)?
        .checked_mul(dilation)?
        .checked_add(1)?;
    let whole = (n - 1)
        .checked_mul(stride)?
        .checked_add(reach)?
        .checked_add(more)?;
    let left = whole.checked_sub(before)?.checked_sub(after)?;
    (left > 0).then_some(left)
}
