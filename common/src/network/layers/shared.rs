//! What several layers do.

use super::super::builder::{Builder, NewParameter};
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Conv, Function, Merge, Op, Pointwise, Pool, PoolKind};
use super::super::shape::Window;
use super::super::words::{Activation, Initializer, Padding, Pair};
use super::Findings;

pub(super) fn yes() -> bool {
    true
}

/// The only input, of a layer that has one.
pub(super) fn only(inputs: &[Tensor]) -> Result<&Tensor, Problem> {
    match inputs {
        [input] => Ok(input),
        _ => Err(Problem::Other(format!(
            "`from` names {} layers; accepted is one",
            inputs.len()
        ))),
    }
}

pub(super) fn bias(used: bool, len: usize) -> Option<NewParameter> {
    used.then(|| NewParameter::constant("bias", vec![len], 0.0))
}

pub(super) fn check_pair(pair: Pair, path: String, found: &mut Findings) {
    let (height, width) = pair.get();
    found.at_least_one(height.min(width), path);
}

/// An activation as an operation of its own; none for `linear`.
pub(super) fn activate(
    at: &mut Builder,
    input: Tensor,
    function: Activation,
    alpha: Option<f64>,
) -> Result<Tensor, Problem> {
    softmax_is_flat(function, &input.shape)?;
    let Some(function) = Function::new(function, alpha).map_err(Problem::Other)? else {
        return Ok(input);
    };
    let width = input.shape[input.shape.len() - 1];
    let op = Op::Activation(Pointwise { function, width });
    at.apply(op, &[&input], input.shape.clone(), Vec::new())
}

/// Channels lie first here, so that a softmax over the last dimension of an image would be one over
/// the pixels of a row: nobody means that.
fn softmax_is_flat(function: Activation, shape: &[usize]) -> Result<(), Problem> {
    if function == Activation::Softmax && shape.len() != 1 {
        return Err(Problem::NeedsFlat(shape.to_vec()));
    }
    Ok(())
}

/// What a convolution of any number of dimensions has besides its kernel and stride.
pub(super) struct Filters {
    pub(super) filters: usize,
    pub(super) activation: Activation,
    pub(super) use_bias: bool,
    pub(super) kernel_initializer: Initializer,
}

/// A kernel that moves over an image by a window. `along`: how many of the last dimensions of image and kernel the
/// layer speaks of, 1 or 2; those before have the size 1.
pub(super) fn convolve(
    at: &mut Builder,
    image: &Tensor,
    filters: &Filters,
    (size, stride, padding): (Pair, Pair, Padding),
    along: usize,
) -> Result<Tensor, Problem> {
    let count = filters.filters;
    if count == 0 {
        return Err(Problem::Zero { field: "filters" });
    }
    let window = Window::over(&image.shape, "kernel", size, stride, padding)?;
    let (channels, taps) = (image.shape[0], window.taps());
    let from = 2 - along;
    let mut shape = vec![count];
    shape.extend_from_slice(&[window.out_height, window.out_width][from..]);
    softmax_is_flat(filters.activation, &shape)?;
    let relu = filters.activation == Activation::Relu;
    let op = Op::Conv(Conv {
        channels,
        filters: count,
        window,
        bias: filters.use_bias,
        relu,
    });
    let fans = (channels.saturating_mul(taps), count.saturating_mul(taps));
    let mut kernel = vec![count, channels];
    kernel.extend_from_slice(&[window.kh, window.kw][from..]);
    let kernel = NewParameter::drawn("kernel", kernel, filters.kernel_initializer, fans);
    let parameters = [kernel].into_iter().chain(bias(filters.use_bias, count));
    let output = at.apply(op, &[image], shape, parameters.collect())?;
    match relu {
        true => Ok(output),
        false => activate(at, output, filters.activation, None),
    }
}

pub(super) fn pool(
    at: &mut Builder,
    input: &Tensor,
    kind: PoolKind,
    (size, stride, padding): (Pair, Option<Pair>, Padding),
) -> Result<Tensor, Problem> {
    let stride = stride.unwrap_or(size);
    let window = Window::over(&input.shape, "window", size, stride, padding)?;
    let shape = vec![input.shape[0], window.out_height, window.out_width];
    at.apply(Op::Pool(Pool { kind, window }), &[input], shape, Vec::new())
}

/// One window over the whole image.
pub(super) fn global_pool(
    at: &mut Builder,
    input: &Tensor,
    kind: PoolKind,
) -> Result<Tensor, Problem> {
    let [channels, height, width] = input.shape[..] else {
        return Err(Problem::NeedsImage(input.shape.clone()));
    };
    let window = (Pair::Each([height, width]), None, Padding::Valid);
    Ok(pool(at, input, kind, window)?.arranged(vec![channels]))
}

/// A sequence `[channels, length]` as an image of one row.
pub(super) fn as_image(input: &Tensor) -> Result<Tensor, Problem> {
    match input.shape[..] {
        [channels, length] => Ok(input.arranged(vec![channels, 1, length])),
        _ => Err(Problem::Other(format!(
            "needs a sequence [channels, length], but its input is {:?}; a reshape layer before it makes one",
            input.shape
        ))),
    }
}

/// Several tensors of one shape, value by value.
pub(super) fn merge(at: &mut Builder, inputs: &[Tensor], merge: Merge) -> Result<Tensor, Problem> {
    several(inputs)?;
    let shape = inputs[0].shape.clone();
    if let Some(other) = inputs.iter().find(|input| input.shape != shape) {
        return Err(Problem::Other(format!(
            "its inputs are {shape:?} and {:?}; accepted are inputs of one shape",
            other.shape
        )));
    }
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    at.apply(Op::Merge(merge), &inputs, shape, Vec::new())
}

/// Several tensors one after the other, along the first dimension: channels or features.
pub(super) fn concat(at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
    several(inputs)?;
    let mut shape = inputs[0].shape.clone();
    for other in &inputs[1..] {
        if other.shape.len() != shape.len() || other.shape[1..] != shape[1..] {
            return Err(Problem::Other(format!(
                "its inputs are {:?} and {:?}; accepted are inputs that differ in their first dimension alone",
                inputs[0].shape, other.shape
            )));
        }
        shape[0] = shape[0].saturating_add(other.shape[0]);
    }
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    at.apply(Op::Concat, &inputs, shape, Vec::new())
}

fn several(inputs: &[Tensor]) -> Result<(), Problem> {
    match inputs.len() {
        0 | 1 => Err(Problem::other(
            "has one input; accepted are two or more: `from: [one, other]`",
        )),
        _ => Ok(()),
    }
}
