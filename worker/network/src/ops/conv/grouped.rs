//! Convolutions whose channels fall into groups with filters of their own: a matrix product for each of them.

use rayon::prelude::*;
use trainyard_common::network;

use super::{Conv, Scratch, sized, with_scratch};
use crate::gemm::{View, gemm};

#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) groups: usize,
    /// The convolution of one group.
    pub(super) part: Conv,
}

impl Grouped {
    pub(super) fn new(conv: &Conv) -> Self {
        Self {
            groups: conv.groups,
            part: Conv(network::Conv {
                channels: conv.channels / conv.groups,
                filters: conv.filters / conv.groups,
                groups: 1,
                ..conv.0.clone()
            }),
        }
    }

    /// The kernel of a group.
    pub(super) fn kernel<'a>(&self, kernel: &'a [f32], group: usize) -> View<'a> {
        let (rows, columns) = (self.part.filters, self.part.depth());
        let len = rows * columns;
        View::new(&kernel[group * len..(group + 1) * len], rows, columns)
    }

    pub(super) fn forward(
        &self,
        kernel: &[f32],
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
    ) {
        let (image, out, filters) = (self.part.image(), self.part.output(), self.part.filters);
        let samples = output.par_chunks_mut(self.groups * out);
        let samples = samples.zip(input.par_chunks(self.groups * image));
        samples.for_each(|(output, input)| {
            with_scratch(|scratch| {
                let groups = output.chunks_exact_mut(out).zip(input.chunks_exact(image));
                for (group, (output, input)) in groups.enumerate() {
                    let kernel = self.kernel(kernel, group);
                    let bias = bias.map(|bias| &bias[group * filters..(group + 1) * filters]);
                    self.part
                        .forward_group(kernel, bias, input, output, scratch);
                }
            });
        });
    }

    /// Writes the gradients of the kernel, summed over these samples in their order, and of the images.
    /// `values`: input and gradient of the output.
    pub(super) fn backward(
        &self,
        kernel: &[f32],
        (input, gradient): (&[f32], &[f32]),
        mut input_gradient: Option<&mut [f32]>,
        kernel_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (image, out) = (self.part.image(), self.part.output());
        let (depth, columns) = (self.part.depth(), self.part.window.out_area());
        let len = self.part.filters * depth;
        // Groups of all samples, one after the other.
        let parts = input.chunks_exact(image).zip(gradient.chunks_exact(out));
        for (at, (input, gradient)) in parts.enumerate() {
            let (sample, group) = (at / self.groups, at % self.groups);
            let unfolded = sized(&mut scratch.columns, depth * columns);
            self.part.unfold(input, unfolded, columns);
            let unfolded = View::new(unfolded, depth, columns);
            let gradient = View::new(gradient, self.part.filters, columns);
            let own = &mut kernel_gradient[group * len..(group + 1) * len];
            gemm(own, sample > 0, gradient, unfolded.transposed());
            if let Some(images) = input_gradient.as_deref_mut() {
                let unfolded = sized(&mut scratch.column_gradient, depth * columns);
                let kernel = self.kernel(kernel, group);
                gemm(unfolded, false, kernel.transposed(), gradient);
                let own = &mut images[at * image..(at + 1) * image];
                self.part.fold(unfolded, columns, own);
            }
        }
    }
}
