//! Layers whose window moves over an image or along a sequence.

use super::super::builder::{Builder, NewParameter};
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Axis, Conv, Method, Op, Pool, PoolKind, Resample};
use super::super::shape::{Moves, Window};
use super::super::words::{Activation, Border, Initializer, Padding, Pair};
use super::Findings;
use super::shared::{activate, bias, softmax_is_flat};

pub(super) fn one() -> usize {
    1
}

/// A number along a sequence, as a pair of the image of one row that it is here.
pub(super) fn in_one_row(along: usize) -> Pair {
    Pair::Each([1, along])
}

/// A sequence `[channels, length]` as an image of one row.
pub(super) fn as_image(input: &Tensor) -> Result<Tensor, Problem> {
    match input.shape[..] {
        [channels, length] => Ok(input.arranged(vec![channels, 1, length])),
        _ => Err(needs(SEQUENCE, input)),
    }
}

pub(super) const SEQUENCE: &str = "a sequence [channels, length]";
pub(super) const VOLUME: &str = "a volume [channels, depth, height, width]";

pub(super) fn needs(what: &str, input: &Tensor) -> Problem {
    Problem::Other(format!(
        "needs {what}, but its input is {:?}; a reshape layer before it makes one",
        input.shape
    ))
}

/// An image of one row as a sequence.
pub(super) fn as_sequence(image: &Tensor) -> Tensor {
    let length = image.shape[1..].iter().product();
    image.arranged(vec![image.shape[0], length])
}

/// What is wrong with the padding of a layer of so many dimensions.
pub(super) fn check_padding(
    padding: &Padding,
    dimensions: usize,
    path: &str,
    found: &mut Findings,
) {
    found.expect(
        padding.border(dimensions, 0).is_some(),
        format!("{path}.padding"),
        padding,
        accepted_padding(dimensions),
    );
}

fn accepted_padding(dimensions: usize) -> &'static str {
    match dimensions {
        1 => "`valid`, `same`, a whole number, or [[before, after]]",
        2 => "`valid`, `same`, a whole number, [height, width], or [[top, bottom], [left, right]]",
        _ => {
            "`valid`, `same`, a whole number, [depth, height, width], or [before, after] for each of these"
        }
    }
}

/// The borders of the last two dimensions of the image that a layer of `dimensions` sees.
fn borders(padding: &Padding, dimensions: usize) -> Result<[Border; 2], Problem> {
    let at = |at| {
        padding.border(dimensions, at).ok_or_else(|| {
            Problem::Other(format!(
                "padding {padding}; accepted: {}",
                accepted_padding(dimensions)
            ))
        })
    };
    Ok(match dimensions {
        1 => [Border::Valid, at(0)?],
        _ => [at(0)?, at(1)?],
    })
}

/// How a kernel or a window moves, in the words of a document. `dimensions`: how many of the last ones of the image
/// the layer speaks of, 1 or 2; those before have the size 1.
pub(super) struct Movement<'a> {
    pub(super) size: Pair,
    pub(super) stride: Pair,
    pub(super) dilation: Pair,
    pub(super) padding: &'a Padding,
    pub(super) ceil: bool,
    pub(super) dimensions: usize,
}

impl Movement<'_> {
    pub(super) fn over(&self, what: &'static str, image: &[usize]) -> Result<Window, Problem> {
        let moves = Moves {
            what,
            size: self.size,
            stride: self.stride,
            dilation: self.dilation,
            borders: borders(self.padding, self.dimensions)?,
            ceil: self.ceil,
        };
        Window::over(image, moves).map_err(|problem| match problem {
            Problem::DoesNotFit { .. } if self.dimensions == 1 => Problem::Other(format!(
                "{problem}; the length of a sequence is its last dimension here: of [steps, features] \
                 `permute: {{order: [2, 1]}}` makes [channels, length]"
            )),
            problem => problem,
        })
    }
}

/// What a convolution of any number of dimensions has besides its movement.
pub(super) struct Filters {
    pub(super) filters: usize,
    pub(super) groups: usize,
    pub(super) activation: Activation,
    pub(super) use_bias: bool,
    pub(super) kernel_initializer: Initializer,
}

impl Filters {
    /// Channels that each filter sees.
    pub(super) fn channels_of(&self, channels: usize) -> Result<usize, Problem> {
        let (groups, filters) = (self.groups, self.filters);
        if filters == 0 {
            return Err(Problem::Zero { field: "filters" });
        }
        if groups == 0 {
            return Err(Problem::Zero { field: "groups" });
        }
        if !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(Problem::Other(format!(
                "{groups} groups given; accepted are divisors of both its {channels} channels and its {filters} filters"
            )));
        }
        Ok(channels / groups)
    }
}

/// A kernel that moves over an image.
pub(super) fn convolve(
    at: &mut Builder,
    image: &Tensor,
    filters: &Filters,
    movement: &Movement<'_>,
) -> Result<Tensor, Problem> {
    let count = filters.filters;
    let window = movement.over("kernel", &image.shape)?;
    let (channels, taps) = (image.shape[0], window.taps());
    let depth = filters.channels_of(channels)?;
    let from = 2 - movement.dimensions;
    let mut shape = vec![count];
    shape.extend_from_slice(&[window.out_height, window.out_width][from..]);
    softmax_is_flat(filters.activation, &shape)?;
    let relu = filters.activation == Activation::Relu;
    let op = Op::Conv(Conv {
        channels,
        filters: count,
        groups: filters.groups,
        window,
        bias: filters.use_bias,
        relu,
    });
    let fans = (depth.saturating_mul(taps), count.saturating_mul(taps));
    let mut kernel = vec![count, depth];
    kernel.extend_from_slice(&[window.kh, window.kw][from..]);
    let kernel = NewParameter::drawn("kernel", kernel, filters.kernel_initializer, fans);
    let parameters = [kernel].into_iter().chain(bias(filters.use_bias, count));
    let output = at.apply(op, &[image], shape, parameters.collect())?;
    match relu {
        true => Ok(output),
        false => activate(at, output, filters.activation, None),
    }
}

/// A window that moves over an image, which stays one. `count_padding`: whether means count it.
pub(super) fn pool(
    at: &mut Builder,
    input: &Tensor,
    kind: PoolKind,
    count_padding: bool,
    movement: &Movement<'_>,
) -> Result<Tensor, Problem> {
    let window = movement.over("window", &input.shape)?;
    // Otherwise a window could lie in the padding alone, where nothing is largest.
    let most =
        window.top.max(window.bottom) < window.kh && window.left.max(window.right) < window.kw;
    if !most {
        return Err(Problem::Other(format!(
            "padding {}; accepted beside a window of {}x{} is less than its size",
            movement.padding, window.kh, window.kw
        )));
    }
    let op = Op::Pool(Pool {
        kind,
        count_padding,
        window,
    });
    let shape = vec![input.shape[0], window.out_height, window.out_width];
    at.apply(op, &[input], shape, Vec::new())
}

/// One window over the whole image, sequence or volume, of so many dimensions beside the channels.
pub(super) fn global_pool(
    at: &mut Builder,
    input: &Tensor,
    kind: PoolKind,
    dimensions: usize,
    keep_dims: bool,
) -> Result<Tensor, Problem> {
    if input.shape.len() != dimensions + 1 {
        return Err(match dimensions {
            2 => Problem::NeedsImage(input.shape.clone()),
            _ => needs(if dimensions == 1 { SEQUENCE } else { VOLUME }, input),
        });
    }
    let (channels, width) = (input.shape[0], input.shape[dimensions]);
    let height = input.len() / channels / width;
    let image = input.arranged(vec![channels, height, width]);
    let movement = Movement {
        size: Pair::Each([height, width]),
        stride: Pair::one(),
        dilation: Pair::one(),
        padding: &Padding::default(),
        ceil: false,
        dimensions: 2,
    };
    let mut shape = vec![channels];
    if keep_dims {
        shape.resize(dimensions + 1, 1);
    }
    Ok(pool(at, &image, kind, false, &movement)?.arranged(shape))
}

/// Another size of all dimensions but the channels.
pub(super) fn resample(
    at: &mut Builder,
    input: &Tensor,
    size: &[usize],
    method: Method,
) -> Result<Tensor, Problem> {
    if size.contains(&0) {
        return Err(Problem::Zero { field: "size" });
    }
    let axes = input.shape[1..].iter().zip(size);
    let axes = axes.map(|(&n, &out)| Axis { n, out, method }).collect();
    let mut shape = vec![input.shape[0]];
    shape.extend_from_slice(size);
    let op = Op::Resample(Resample { axes });
    at.apply(op, &[input], shape, Vec::new())
}
