//! Sums and products of whole planes with one value for each.

use rayon::prelude::*;
use trainyard_common::network::{self, Merge};

use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;
/// Lanes of a sum over a plane, so that its order is fixed and vectors are used.
const LANES: usize = 16;

#[derive(Debug)]
pub(super) struct Broadcast(pub(super) network::Broadcast);

/// What an input has for one plane.
#[derive(Clone, Copy)]
enum Part<'a> {
    Plane(&'a [f32]),
    Value(f32),
}

impl Broadcast {
    fn planes(&self) -> usize {
        (BLOCK / self.0.area).max(1)
    }

    #[inline(always)]
    fn part<'a>(&self, inputs: &[&'a [f32]], at: usize, plane: usize) -> Part<'a> {
        match self.0.spread[at] {
            true => Part::Value(inputs[at][plane]),
            false => Part::Plane(&inputs[at][plane * self.0.area..][..self.0.area]),
        }
    }

    #[inline(always)]
    fn fold(&self, values: &mut [f32], part: Part<'_>) {
        let add = self.0.merge == Merge::Add;
        match part {
            Part::Plane(plane) if add => values.iter_mut().zip(plane).for_each(|(y, x)| *y += x),
            Part::Plane(plane) => values.iter_mut().zip(plane).for_each(|(y, x)| *y *= x),
            Part::Value(value) if add => values.iter_mut().for_each(|y| *y += value),
            Part::Value(value) => values.iter_mut().for_each(|y| *y *= value),
        }
    }

    /// The gradient of input `at` over one plane: that of the output times all others.
    #[inline(always)]
    fn differentiate(
        &self,
        inputs: &[&[f32]],
        at: usize,
        plane: usize,
        gradient: &[f32],
        values: &mut [f32],
    ) {
        values.copy_from_slice(gradient);
        if self.0.merge == Merge::Multiply {
            for other in (0..inputs.len()).filter(|&other| other != at) {
                self.fold(values, self.part(inputs, other, plane));
            }
        }
    }

    fn backward_plane_wise(
        &self,
        inputs: &[&[f32]],
        at: usize,
        gradient: &[f32],
        target: &mut [f32],
    ) {
        let (area, planes) = (self.0.area, self.planes());
        target
            .par_chunks_mut(planes * area)
            .zip(gradient.par_chunks(planes * area))
            .enumerate()
            .for_each(|(task, (target, gradient))| {
                let pairs = target
                    .chunks_exact_mut(area)
                    .zip(gradient.chunks_exact(area));
                for (own, (target, gradient)) in pairs.enumerate() {
                    vectorized(
                        #[inline(always)]
                        || self.differentiate(inputs, at, task * planes + own, gradient, target),
                    );
                }
            });
    }

    fn backward_spread(&self, inputs: &[&[f32]], at: usize, gradient: &[f32], target: &mut [f32]) {
        let (area, planes) = (self.0.area, self.planes());
        target
            .par_chunks_mut(planes)
            .zip(gradient.par_chunks(planes * area))
            .enumerate()
            .for_each(|(task, (target, gradient))| {
                let mut values = vec![0.0; area];
                let pairs = target.iter_mut().zip(gradient.chunks_exact(area));
                for (own, (target, gradient)) in pairs.enumerate() {
                    vectorized(
                        #[inline(always)]
                        || {
                            let plane = task * planes + own;
                            self.differentiate(inputs, at, plane, gradient, &mut values);
                            *target = sum(&values);
                        },
                    );
                }
            });
    }
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        lanes
            .iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    }
    lanes
        .iter_mut()
        .zip(rest)
        .for_each(|(sum, value)| *sum += value);
    lanes.iter().sum()
}

impl Kernel for Broadcast {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let (area, planes) = (self.0.area, self.planes());
        output
            .par_chunks_mut(planes * area)
            .enumerate()
            .for_each(|(task, output)| {
                for (own, values) in output.chunks_exact_mut(area).enumerate() {
                    let plane = task * planes + own;
                    vectorized(
                        #[inline(always)]
                        || {
                            match self.part(inputs, 0, plane) {
                                Part::Plane(first) => values.copy_from_slice(first),
                                Part::Value(first) => values.fill(first),
                            }
                            for at in 1..inputs.len() {
                                self.fold(values, self.part(inputs, at, plane));
                            }
                        },
                    );
                }
            });
    }

    fn backward(
        &self,
        _: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        for (at, target) in targets.iter_mut().enumerate() {
            let Some(target) = target else { continue };
            match self.0.spread[at] {
                true => self.backward_spread(known.inputs, at, gradient, target),
                false => self.backward_plane_wise(known.inputs, at, gradient, target),
            }
        }
    }
}
