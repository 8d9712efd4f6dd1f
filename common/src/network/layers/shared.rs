//! What several layers do.

use super::super::builder::{Builder, NewParameter};
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Broadcast, Function, Merge, Norm, Op, Pointwise};
use super::super::words::{Activation, Pair};
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
    pointwise(at, &input, function)
}

/// A function over all values, softmax over the last dimension.
pub(super) fn pointwise(
    at: &mut Builder,
    input: &Tensor,
    function: Function,
) -> Result<Tensor, Problem> {
    let width = input.shape[input.shape.len() - 1];
    let op = Op::Activation(Pointwise { function, width });
    at.apply(op, &[input], input.shape.clone(), Vec::new())
}

/// Channels lie first here, so that a softmax over the last dimension of an image would be one over
/// the pixels of a row: nobody means that.
pub(super) fn softmax_is_flat(function: Activation, shape: &[usize]) -> Result<(), Problem> {
    let over_features = matches!(function, Activation::Softmax | Activation::LogSoftmax);
    if over_features && shape.len() != 1 {
        return Err(Problem::NeedsFlat(shape.to_vec()));
    }
    Ok(())
}

/// Several tensors of one shape, value by value. Sums and products take tensors with one value a channel beside those of
/// whole planes.
pub(super) fn merge(at: &mut Builder, inputs: &[Tensor], merge: Merge) -> Result<Tensor, Problem> {
    several(inputs)?;
    let whole = &inputs[0].shape;
    let size = |input: &Tensor| (input.len(), input.shape.len());
    let largest = inputs.iter().fold(&inputs[0], |largest, input| {
        if size(input) > size(largest) {
            input
        } else {
            largest
        }
    });
    let shape = largest.shape.clone();
    let sides: Vec<&Tensor> = inputs.iter().collect();
    if inputs.iter().all(|input| input.shape == shape) {
        return at.apply(Op::Merge(merge), &sides, shape, Vec::new());
    }
    let broadcasts = matches!(merge, Merge::Add | Merge::Multiply);
    let is_spread = |input: &Tensor| {
        let ones = input.shape[1..].iter().all(|&size| size == 1);
        input.shape != shape && input.shape[0] == shape[0] && ones
    };
    let fits = |input: &&Tensor| input.shape == shape || (broadcasts && is_spread(input));
    if !inputs.iter().all(|input| fits(&input)) {
        let odd = inputs.iter().find(|input| input.shape != *whole);
        let odd = odd.unwrap_or(largest);
        let other = whole;
        let also = if broadcasts {
            ", and with them [channels] or [channels, 1, 1]"
        } else {
            ""
        };
        return Err(Problem::Other(format!(
            "its inputs are {other:?} and {:?}; accepted are inputs of one shape{also}",
            odd.shape
        )));
    }
    let op = Op::Broadcast(Broadcast {
        merge,
        area: shape[1..].iter().product(),
        spread: inputs.iter().map(is_spread).collect(),
    });
    at.apply(op, &sides, shape, Vec::new())
}

/// Several tensors one after the other along a dimension, counted from 0: the first has channels or features, the
/// last of a sequence its features.
pub(super) fn concat(at: &mut Builder, inputs: &[Tensor], along: usize) -> Result<Tensor, Problem> {
    several(inputs)?;
    let mut shape = inputs[0].shape.clone();
    if along >= shape.len() {
        return Err(Problem::Other(format!(
            "`axis` is {}, but its inputs are {shape:?}; accepted: 1 to {}",
            along + 1,
            shape.len()
        )));
    }
    let others = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        shape.remove(along);
        shape
    };
    for other in &inputs[1..] {
        if other.shape.len() != shape.len() || others(&other.shape) != others(&shape) {
            let which = match along {
                0 => "their first dimension".to_owned(),
                _ => format!("dimension {}", along + 1),
            };
            return Err(Problem::Other(format!(
                "its inputs are {:?} and {:?}; accepted are inputs that differ in {which} alone",
                inputs[0].shape, other.shape
            )));
        }
        shape[along] = shape[along].saturating_add(other.shape[along]);
    }
    let rows = shape[..along].iter().product();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    at.apply(Op::Concat { rows }, &inputs, shape, Vec::new())
}

fn several(inputs: &[Tensor]) -> Result<(), Problem> {
    match inputs.len() {
        0 | 1 => Err(Problem::other(
            "has one input; accepted are two or more: `from: [one, other]`",
        )),
        _ => Ok(()),
    }
}

/// Keras's epsilon of normalizations within a sample.
pub(super) fn norm_epsilon() -> f64 {
    1e-3
}

/// Normalization of every `width` values of a sample, scaled and shifted by channel.
pub(super) fn normalize(
    at: &mut Builder,
    input: &Tensor,
    (channels, area): (usize, usize),
    width: usize,
    epsilon: f64,
) -> Result<Tensor, Problem> {
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        return Err(Problem::Other(format!(
            "epsilon {epsilon}; accepted: above 0"
        )));
    }
    let op = Op::Norm(Norm {
        width,
        channels,
        area,
        epsilon,
    });
    let parameters = vec![
        NewParameter::constant("gamma", vec![channels], 1.0),
        NewParameter::constant("beta", vec![channels], 0.0),
    ];
    at.apply(op, &[input], input.shape.clone(), parameters)
}
