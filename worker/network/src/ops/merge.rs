//! Several buffers of one length, value by value, from the first to the last.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Values handled by one task.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Merge(pub(super) network::Merge);

impl Merge {
    fn fold(&self, output: &mut [f32], input: &[f32]) {
        let pairs = output.iter_mut().zip(input);
        match self.0 {
            network::Merge::Add | network::Merge::Average => pairs.for_each(|(y, x)| *y += x),
            network::Merge::Multiply => pairs.for_each(|(y, x)| *y *= x),
            // NaN is the largest: it must reach the loss.
            network::Merge::Maximum => pairs.for_each(|(y, &x)| {
                if x > *y || x.is_nan() {
                    *y = x;
                }
            }),
        }
    }

    /// The gradient of input `at` in one block, from that of the output.
    fn differentiate(&self, inputs: &[&[f32]], at: usize, gradient: &[f32], target: &mut [f32]) {
        let count = inputs.len();
        match self.0 {
            network::Merge::Add => target.copy_from_slice(gradient),
            network::Merge::Average => {
                let share = 1.0 / count as f32;
                let pairs = target.iter_mut().zip(gradient);
                pairs.for_each(|(target, gradient)| *target = gradient * share);
            }
            network::Merge::Multiply => {
                for (i, (target, &gradient)) in target.iter_mut().zip(gradient).enumerate() {
                    let others = (0..count).filter(|&other| other != at);
                    *target = others.fold(gradient, |product, other| product * inputs[other][i]);
                }
            }
            // To the first of the largest.
            network::Merge::Maximum => {
                for (i, (target, &gradient)) in target.iter_mut().zip(gradient).enumerate() {
                    let own = inputs[at][i];
                    let before = (0..at).all(|other| inputs[other][i] < own);
                    let after = (at + 1..count).all(|other| inputs[other][i] <= own);
                    *target = if before && after { gradient } else { 0.0 };
                }
            }
        }
    }
}

impl Kernel for Merge {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        output
            .par_chunks_mut(BLOCK)
            .enumerate()
            .for_each(|(block, output)| {
                let range = block * BLOCK..block * BLOCK + output.len();
                vectorized(
                    #[inline(always)]
                    || {
                        output.copy_from_slice(&inputs[0][range.clone()]);
                        for input in &inputs[1..] {
                            self.fold(output, &input[range.clone()]);
                        }
                        if self.0 == network::Merge::Average {
                            let share = 1.0 / inputs.len() as f32;
                            output.iter_mut().for_each(|value| *value *= share);
                        }
                    },
                );
            });
    }

    /// A sum's gradient is that of its first input, as it is.
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
            target
                .par_chunks_mut(BLOCK)
                .zip(gradient.par_chunks(BLOCK))
                .enumerate()
                .for_each(|(block, (target, gradient))| {
                    let range = block * BLOCK..block * BLOCK + target.len();
                    // Who reads no inputs here is given none.
                    let inputs: Vec<&[f32]> = known
                        .inputs
                        .iter()
                        .map(|input| input.get(range.clone()).unwrap_or_default())
                        .collect();
                    self.differentiate(&inputs, at, gradient, target);
                });
        }
    }
}
