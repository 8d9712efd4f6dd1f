//! What several layers do.

use super::super::builder::{Builder, NewParameter};
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Function, Merge, Op, Pointwise};
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
    let width = input.shape[input.shape.len() - 1];
    let op = Op::Activation(Pointwise { function, width });
    at.apply(op, &[&input], input.shape.clone(), Vec::new())
}

/// Channels lie first here, so that a softmax over the last dimension of an image would be one over
/// the pixels of a row: nobody means that.
pub(super) fn softmax_is_flat(function: Activation, shape: &[usize]) -> Result<(), Problem> {
    if function == Activation::Softmax && shape.len() != 1 {
        return Err(Problem::NeedsFlat(shape.to_vec()));
    }
    Ok(())
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
