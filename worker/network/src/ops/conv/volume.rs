//! 3-d cross-correlation: matrix products over columns of unfolded volumes, some slices of the output at a time.

use rayon::prelude::*;
use trainyard_common::network::{self, Slices};

use super::grouped::Grouped;
use super::{COLUMNS, Conv, Scratch, Tap, add, in_pieces, sized, sum_lanes, with_scratch};
use crate::gemm::{View, gemm};
use crate::ops::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Parameters: the kernel [filters, channels / groups, kd, kh, kw], then the bias [filters], if any.
#[derive(Debug)]
pub(crate) struct Volume {
    grouped: Grouped,
    slices: Slices,
    bias: bool,
}

impl Volume {
    pub(crate) fn new(op: &network::Conv3d) -> Self {
        Self {
            grouped: Grouped::new(&Conv(op.conv.clone())),
            slices: op.slices,
            bias: op.conv.bias,
        }
    }

    fn part(&self) -> &Conv {
        &self.grouped.part
    }

    /// Values of a group of a sample, in and out.
    fn lengths(&self) -> (usize, usize) {
        let part = self.part();
        (
            part.image() * self.slices.n,
            part.output() * self.slices.out,
        )
    }

    /// Rows of the unfolded matrix: taps of all channels that a filter sees.
    fn depth(&self) -> usize {
        self.part().depth() * self.slices.size
    }

    fn kernel<'a>(&self, kernel: &'a [f32], group: usize) -> View<'a> {
        let (rows, columns) = (self.part().filters, self.depth());
        let len = rows * columns;
        View::new(&kernel[group * len..(group + 1) * len], rows, columns)
    }

    /// (first, number) of slices of the output that are one matrix product.
    fn products(&self) -> impl Iterator<Item = (usize, usize)> {
        let (out, most) = (
            self.slices.out,
            (COLUMNS / self.part().window.out_area()).max(1),
        );
        (0..out)
            .step_by(most)
            .map(move |first| (first, most.min(out - first)))
    }

    /// Calls `visit(place in the unfolded matrix, tap, place of the plane that it reads there)` for all slices of a
    /// product; no plane: it lies in the padding.
    fn for_each_plane(
        &self,
        (first, count): (usize, usize),
        mut visit: impl FnMut(usize, &Tap, Option<usize>),
    ) {
        let (w, s) = (&self.part().window, &self.slices);
        for row in 0..self.depth() {
            let (channel, kz) = (row / (s.size * w.taps()), row / w.taps() % s.size);
            let tap = Tap::new(w, row % w.taps());
            for at in 0..count {
                let z = ((first + at) * s.stride + kz * s.dilation).checked_sub(s.before);
                let plane = z
                    .filter(|&z| z < s.n)
                    .map(|z| (channel * s.n + z) * w.area());
                visit((row * count + at) * w.out_area(), &tap, plane);
            }
        }
    }

    fn unfold(&self, volume: &[f32], unfolded: &mut [f32], product: (usize, usize)) {
        let w = &self.part().window;
        self.for_each_plane(product, |to, tap, plane| {
            let lines = &mut unfolded[to..to + w.out_area()];
            let Some(plane) = plane.map(|plane| &volume[plane..plane + w.area()]) else {
                lines.fill(0.0);
                return;
            };
            for (oy, line) in lines.chunks_exact_mut(w.out_width).enumerate() {
                match tap.row(w, oy) {
                    Some(y) => tap.read(w, &plane[y * w.width..(y + 1) * w.width], line),
                    None => line.fill(0.0),
                }
            }
        });
    }

    /// The adjoint of `unfold`: adds to the volume.
    fn fold(&self, unfolded: &[f32], volume: &mut [f32], product: (usize, usize)) {
        let w = &self.part().window;
        self.for_each_plane(product, |from, tap, plane| {
            let Some(plane) = plane else { return };
            let plane = &mut volume[plane..plane + w.area()];
            let lines = unfolded[from..from + w.out_area()].chunks_exact(w.out_width);
            for (oy, line) in lines.enumerate() {
                if let Some(y) = tap.row(w, oy) {
                    tap.add(w, line, &mut plane[y * w.width..(y + 1) * w.width]);
                }
            }
        });
    }

    /// Places of a filter's slices of a product in what a group puts out.
    fn slices(&self, filter: usize, (first, count): (usize, usize)) -> std::ops::Range<usize> {
        let area = self.part().window.out_area();
        let start = (filter * self.slices.out + first) * area;
        start..start + count * area
    }

    fn forward_group(
        &self,
        kernel: View<'_>,
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let filters = self.part().filters;
        for product in self.products() {
            let columns = product.1 * self.part().window.out_area();
            let unfolded = sized(&mut scratch.columns, self.depth() * columns);
            self.unfold(input, unfolded, product);
            let sums = sized(&mut scratch.grouped, filters * columns);
            gemm(
                sums,
                false,
                kernel,
                View::new(unfolded, self.depth(), columns),
            );
            for (filter, sums) in sums.chunks_exact(columns).enumerate() {
                let bias = bias.map_or(0.0, |bias| bias[filter]);
                let target = &mut output[self.slices(filter, product)];
                vectorized(
                    #[inline(always)]
                    || {
                        let pairs = target.iter_mut().zip(sums);
                        pairs.for_each(|(value, sum)| *value = sum + bias);
                    },
                );
            }
        }
    }

    /// Adds one group of one sample to the kernel's gradient, or begins it, and writes the gradient of the volume.
    fn backward_group(
        &self,
        kernel: View<'_>,
        (input, gradient): (&[f32], &[f32]),
        mut target: Option<&mut [f32]>,
        (kernel_gradient, begin): (&mut [f32], bool),
        scratch: &mut Scratch,
    ) {
        let filters = self.part().filters;
        if let Some(target) = target.as_deref_mut() {
            target.fill(0.0);
        }
        for product in self.products() {
            let columns = product.1 * self.part().window.out_area();
            let unfolded = sized(&mut scratch.columns, self.depth() * columns);
            self.unfold(input, unfolded, product);
            let own = sized(&mut scratch.grouped, filters * columns);
            for (filter, own) in own.chunks_exact_mut(columns).enumerate() {
                own.copy_from_slice(&gradient[self.slices(filter, product)]);
            }
            let own = View::new(own, filters, columns);
            let unfolded = View::new(unfolded, self.depth(), columns);
            let go_on = !begin || product.0 > 0;
            gemm(kernel_gradient, go_on, own, unfolded.transposed());
            if let Some(target) = target.as_deref_mut() {
                let unfolded = sized(&mut scratch.column_gradient, self.depth() * columns);
                gemm(unfolded, false, kernel.transposed(), own);
                self.fold(unfolded, target, product);
            }
        }
    }

    /// Writes the gradients of the parameters, summed over these samples in their order, and of the inputs.
    fn backward_chunk(
        &self,
        kernel: &[f32],
        (input, gradient): (&[f32], &[f32]),
        mut targets: Option<&mut [f32]>,
        partial: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let ((len, out), groups) = (self.lengths(), self.grouped.groups);
        let (kernel_gradient, bias_gradient) = partial.split_at_mut(kernel.len());
        let own = kernel.len() / groups;
        // Groups of all samples, one after the other.
        let parts = input.chunks_exact(len).zip(gradient.chunks_exact(out));
        for (at, values) in parts.enumerate() {
            let group = at % groups;
            let sum = &mut kernel_gradient[group * own..(group + 1) * own];
            let target = targets
                .as_deref_mut()
                .map(|all| &mut all[at * len..(at + 1) * len]);
            let kernel = self.kernel(kernel, group);
            self.backward_group(kernel, values, target, (sum, at < groups), scratch);
        }
        bias_gradient.fill(0.0);
        if self.bias {
            let volume = self.slices.out * self.part().window.out_area();
            let sums = gradient.chunks_exact(volume).map(|plane| {
                vectorized(
                    #[inline(always)]
                    || sum_lanes(plane),
                )
            });
            let filters = bias_gradient.len();
            sums.enumerate()
                .for_each(|(at, sum)| add(&mut bias_gradient[at % filters..][..1], &[sum]));
        }
    }
}

impl Kernel for Volume {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let ((len, out), groups) = (self.lengths(), self.grouped.groups);
        let filters = self.part().filters;
        output
            .par_chunks_mut(groups * out)
            .zip(inputs[0].par_chunks(groups * len))
            .for_each(|(output, input)| {
                with_scratch(|scratch| {
                    let parts = output.chunks_exact_mut(out).zip(input.chunks_exact(len));
                    for (group, (output, input)) in parts.enumerate() {
                        let own = group * filters..(group + 1) * filters;
                        let bias = self.bias.then(|| &at.parameters[1][own]);
                        let kernel = self.kernel(at.parameters[0], group);
                        self.forward_group(kernel, bias, input, output, scratch);
                    }
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
        let ((len, out), groups) = (self.lengths(), self.grouped.groups);
        let lengths = (groups * len, groups * out);
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
