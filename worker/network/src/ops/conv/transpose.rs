//! Transposed convolution: the adjoint of a convolution as a layer of its own.
//!
//! The convolution goes from what the layer puts out to what it is given: images of the one are outputs of the other.

use rayon::prelude::*;
use trainyard_common::network;

use super::grouped::Grouped;
use super::{Conv, Scratch, in_pieces, sized, sum_lanes, with_scratch};
use crate::gemm::{View, gemm};
use crate::ops::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Parameters: the kernel [channels, filters / groups, kh, kw], then the bias [filters], if any.
#[derive(Debug)]
pub(crate) struct Transpose {
    grouped: Grouped,
    bias: bool,
}

impl Transpose {
    pub(crate) fn new(op: &network::ConvTranspose) -> Self {
        Self {
            grouped: Grouped::new(&Conv(op.conv.clone())),
            bias: op.bias,
        }
    }

    fn part(&self) -> &Conv {
        &self.grouped.part
    }

    /// Values of a sample that it is given, and that it puts out.
    fn lengths(&self) -> (usize, usize) {
        let (part, groups) = (self.part(), self.grouped.groups);
        (groups * part.output(), groups * part.image())
    }

    /// Sizes of the kernel of a group as a matrix, and its columns.
    fn sizes(&self) -> (usize, usize, usize) {
        let part = self.part();
        (part.filters, part.depth(), part.window.out_area())
    }

    fn forward_sample(
        &self,
        kernel: &[f32],
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (filters, depth, columns) = self.sizes();
        let part = self.part();
        let groups = output.chunks_exact_mut(part.image());
        let groups = groups.zip(input.chunks_exact(part.output()));
        for (group, (output, input)) in groups.enumerate() {
            let unfolded = sized(&mut scratch.columns, depth * columns);
            let kernel = self.grouped.kernel(kernel, group).transposed();
            gemm(unfolded, false, kernel, View::new(input, filters, columns));
            part.fold(unfolded, columns, output);
        }
        let Some(bias) = bias else { return };
        let planes = output.chunks_exact_mut(part.window.area());
        vectorized(
            #[inline(always)]
            || {
                for (plane, bias) in planes.zip(bias) {
                    plane.iter_mut().for_each(|value| *value += bias);
                }
            },
        );
    }

    /// Writes the gradients of the parameters, summed over these samples in their order, and of the inputs.
    fn backward_chunk(
        &self,
        kernel: &[f32],
        (input, gradient): (&[f32], &[f32]),
        mut input_gradient: Option<&mut [f32]>,
        partial: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (filters, depth, columns) = self.sizes();
        let (part, groups) = (self.part(), self.grouped.groups);
        let (kernel_gradient, bias_gradient) = partial.split_at_mut(kernel.len());
        // Groups of all samples, one after the other.
        let parts = input.chunks_exact(part.output());
        let parts = parts.zip(gradient.chunks_exact(part.image()));
        for (at, (input, gradient)) in parts.enumerate() {
            let (sample, group) = (at / groups, at % groups);
            let unfolded = sized(&mut scratch.columns, depth * columns);
            part.unfold(gradient, unfolded, columns);
            let unfolded = View::new(unfolded, depth, columns);
            let own = &mut kernel_gradient[group * filters * depth..][..filters * depth];
            let input = View::new(input, filters, columns);
            gemm(own, sample > 0, input, unfolded.transposed());
            if let Some(targets) = input_gradient.as_deref_mut() {
                let target = &mut targets[at * part.output()..(at + 1) * part.output()];
                gemm(target, false, self.grouped.kernel(kernel, group), unfolded);
            }
        }
        bias_gradient.fill(0.0);
        if self.bias {
            let planes = gradient.chunks_exact(part.window.area());
            for (at, plane) in planes.enumerate() {
                bias_gradient[at % (groups * part.channels)] += vectorized(
                    #[inline(always)]
                    || sum_lanes(plane),
                );
            }
        }
    }
}

impl Kernel for Transpose {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let (len, out) = self.lengths();
        let bias = self.bias.then(|| at.parameters[1]);
        output
            .par_chunks_mut(out)
            .zip(inputs[0].par_chunks(len))
            .for_each(|(output, input)| {
                with_scratch(|scratch| {
                    self.forward_sample(at.parameters[0], bias, input, output, scratch);
                });
            });
    }

    fn backward(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        kept: &mut Kept,
    ) {
        let lengths = self.lengths();
        let values = (known.inputs[0], &*gradient);
        let sums = (parameter_gradient, &mut kept.scratch);
        let target = targets[0].as_deref_mut();
        in_pieces(
            lengths,
            values,
            target,
            sums,
            |values, target, partial, scratch| {
                self.backward_chunk(at.parameters[0], values, target, partial, scratch);
            },
        );
    }
}
