//! Layers that put zeros around images, sequences and volumes, or cut their borders away.

use super::super::builder::Builder;
use super::super::error::Problem;
use super::super::graph::Tensor;
use super::super::ops::{Frame, Method, Op};
use super::super::words::{Interpolation, Pair, Sides, Triple};
use super::Findings;
use super::moving::{SEQUENCE, VOLUME, needs};

/// What the layers accept, of so many dimensions.
fn accepted(dimensions: usize) -> &'static str {
    match dimensions {
        1 => "a whole number, or [[before, after]]",
        2 => "a whole number, [height, width], or [[top, bottom], [left, right]]",
        _ => "a whole number, [depth, height, width], or [before, after] for each of these",
    }
}

pub(super) fn check_sides(sides: &Sides, dimensions: usize, path: String, found: &mut Findings) {
    let fits = sides.around(dimensions, 0).is_some();
    found.expect(fits, path, sides, accepted(dimensions));
}

pub(super) fn check_triple(triple: Triple, path: String, found: &mut Findings) {
    let [depth, height, width] = triple.get();
    found.at_least_one(depth.min(height).min(width), path);
}

/// The sizes of so many dimensions beside the channels.
pub(super) fn sizes(input: &Tensor, dimensions: usize) -> Result<&[usize], Problem> {
    match (&input.shape[1..], dimensions) {
        (sizes, _) if sizes.len() == dimensions => Ok(sizes),
        (_, 1) => Err(needs(SEQUENCE, input)),
        (_, 2) => Err(Problem::NeedsImage(input.shape.clone())),
        _ => Err(needs(VOLUME, input)),
    }
}

/// Sizes times factors.
pub(super) fn scaled(sizes: &[usize], factors: &[usize]) -> Vec<usize> {
    let pairs = sizes.iter().zip(factors);
    pairs
        .map(|(&size, &factor)| size.saturating_mul(factor))
        .collect()
}

pub(super) fn each(pair: Pair) -> [usize; 2] {
    pair.get().into()
}

/// Adds `sides` to each dimension, or takes them away.
pub(super) fn frame(
    at: &mut Builder,
    input: &Tensor,
    sides: &Sides,
    dimensions: usize,
    crop: bool,
) -> Result<Tensor, Problem> {
    let field = if crop { "cropping" } else { "padding" };
    let own = sizes(input, dimensions)?;
    let (mut from, mut to, mut offset) = ([1; 3], [1; 3], [0; 3]);
    let mut shape = vec![input.shape[0]];
    for (dimension, &n) in own.iter().enumerate() {
        let refused = || {
            Problem::Other(format!(
                "{field} {sides} of an input of {own:?}; accepted: {}{}",
                accepted(dimensions),
                if crop { ", which leave something" } else { "" }
            ))
        };
        let (before, after) = sides.around(dimensions, dimension).ok_or_else(refused)?;
        let size = match crop {
            true => n.checked_sub(before).and_then(|n| n.checked_sub(after)),
            false => n.checked_add(before).and_then(|n| n.checked_add(after)),
        };
        let size = size.filter(|&size| size > 0).ok_or_else(refused)?;
        let before = isize::try_from(before).map_err(|_| refused())?;
        let place = 3 - dimensions + dimension;
        (from[place], to[place]) = (n, size);
        offset[place] = if crop { -before } else { before };
        shape.push(size);
    }
    let op = Op::Frame(Frame {
        input: from,
        output: to,
        offset,
    });
    at.apply(op, &[input], shape, Vec::new())
}

impl Interpolation {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Nearest => Method::Nearest,
            Self::Bilinear => Method::Linear,
        }
    }
}
