//! 2-d cross-correlation: matrix products over columns of unfolded images, or, where that is faster,
//! `shifted`. Channels in groups are `grouped`'s or `depthwise`'s.

mod depthwise;
#[cfg(target_arch = "x86_64")]
mod direct;
mod grouped;
#[cfg(target_arch = "x86_64")]
mod shifted;
mod tap;
mod transpose;
mod volume;

use std::cell::RefCell;

use rayon::prelude::*;
use trainyard_common::network;

use super::activation::{mask_positive, relu};
use super::dense::add;
use super::{At, Kept, Known};
use crate::gemm::{View, gemm};
use crate::simd::vectorized;
use depthwise::Depthwise;
use grouped::Grouped;
#[cfg(target_arch = "x86_64")]
use shifted::Shifted;
use tap::Tap;
pub(super) use transpose::Transpose;
pub(super) use volume::Volume;

/// Fixed pieces of a batch. The kernel's gradient is summed piece by piece in order, so that it does
/// not depend on the number of threads.
const CHUNKS: usize = 4;
/// Columns of one matrix product: enough to run the micro-kernels at full speed, few enough for the
/// cache (measured).
const COLUMNS: usize = 512;
/// Kernel elements summed by one task.
const BLOCK: usize = 1 << 14;

/// Parameters: the kernel [filters, channels / groups, kh, kw], then the bias [filters], if any.
#[derive(Debug)]
pub(super) struct Conv(pub(super) network::Conv);

impl std::ops::Deref for Conv {
    type Target = network::Conv;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl super::Kernel for Conv {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        self.correlate(at.parameters, inputs[0], output);
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
        self.differentiate(
            at.parameters,
            known.inputs[0],
            known.output,
            gradient,
            targets[0].as_deref_mut(),
            parameter_gradient,
            &mut kept.scratch,
        );
    }
}

/// The kernel as the backward pass wants it.
enum Kernel<'a> {
    Matrix(View<'a>),
    #[cfg(target_arch = "x86_64")]
    Shifted(Shifted<'a>, Vec<f32>),
    Grouped(Grouped, &'a [f32]),
    Depthwise(Depthwise, &'a [f32]),
}

/// Scratch of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) columns: Vec<f32>,
    pub(crate) column_gradient: Vec<f32>,
    pub(crate) grouped: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut Scratch::default()),
    })
}

/// The first `len` values of a buffer that grows as needed; what they hold is left over.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl Conv {
    fn image(&self) -> usize {
        self.channels * self.window.area()
    }

    fn output(&self) -> usize {
        self.filters * self.window.out_area()
    }

    /// Rows of the unfolded matrix: taps of all channels that a filter sees.
    fn depth(&self) -> usize {
        self.channels / self.groups * self.window.taps()
    }

    /// Samples of one matrix product.
    fn group(&self) -> usize {
        (COLUMNS / self.window.out_area()).max(1)
    }

    /// input [n, channels, height, width] -> output [n, filters, height', width'].
    fn correlate(&self, parameters: &[&[f32]], input: &[f32], output: &mut [f32]) {
        let bias = self.bias.then(|| parameters[1]);
        if self.groups > 1 {
            return match Depthwise::new(self) {
                Some(depthwise) => depthwise.forward(parameters[0], bias, input, output),
                None => Grouped::new(self).forward(parameters[0], bias, input, output),
            };
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(shifted) = Shifted::new(self) {
            let packed = shifted.pack_forward(parameters[0]);
            output
                .par_chunks_mut(self.output())
                .zip(input.par_chunks(self.image()))
                .for_each(|(output, input)| {
                    with_scratch(|scratch| shifted.forward(&packed, bias, input, output, scratch));
                });
            return;
        }
        let group = self.group();
        let kernel = View::new(parameters[0], self.filters, self.depth());
        output
            .par_chunks_mut(group * self.output())
            .zip(input.par_chunks(group * self.image()))
            .for_each(|(output, input)| {
                with_scratch(|scratch| self.forward_group(kernel, bias, input, output, scratch));
            });
    }

    fn forward_group(
        &self,
        kernel: View<'_>,
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let samples = input.len() / self.image();
        let columns = samples * self.window.out_area();
        let unfolded = sized(&mut scratch.columns, self.depth() * columns);
        self.unfold(input, unfolded, columns);
        let unfolded = View::new(unfolded, self.depth(), columns);
        if samples == 1 {
            gemm(output, false, kernel, unfolded);
        } else {
            let grouped = sized(&mut scratch.grouped, self.filters * columns);
            gemm(grouped, false, kernel, unfolded);
            self.for_each_plane(columns, |grouped_at, at| {
                output[at].copy_from_slice(&grouped[grouped_at]);
            });
        }
        vectorized(
            #[inline(always)]
            || {
                if let Some(bias) = bias {
                    let planes = output.chunks_exact_mut(self.window.out_area());
                    for (plane, &bias) in planes.zip(bias.iter().cycle()) {
                        plane.iter_mut().for_each(|value| *value += bias);
                    }
                }
                if self.relu {
                    relu(output);
                }
            },
        );
    }

    /// (range in [filters, samples, area], range in [samples, filters, area]) of each plane.
    fn for_each_plane(
        &self,
        columns: usize,
        mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        let area = self.window.out_area();
        for sample in 0..columns / area {
            for filter in 0..self.filters {
                let grouped = filter * columns + sample * area;
                let own = (sample * self.filters + filter) * area;
                visit(grouped..grouped + area, own..own + area);
            }
        }
    }

    /// `gradient` is that of the output; masked in place for ReLU. `parameter_gradient` is the flat
    /// part of kernel and bias, `partials` scratch.
    #[allow(clippy::too_many_arguments)]
    fn differentiate(
        &self,
        parameters: &[&[f32]],
        input: &[f32],
        output: &[f32],
        gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
        parameter_gradient: &mut [f32],
        partials: &mut Vec<f32>,
    ) {
        let n = input.len() / self.image();
        let chunk = n.div_ceil(CHUNKS);
        let kernel = self.backward_kernel(parameters[0], input_gradient.is_some());
        if self.relu {
            gradient
                .par_chunks_mut(chunk * self.output())
                .zip(output.par_chunks(chunk * self.output()))
                .for_each(|(gradient, output)| {
                    vectorized(
                        #[inline(always)]
                        || mask_positive(gradient, output),
                    );
                });
        }
        let lengths = (self.image(), self.output());
        let values = (input, &*gradient);
        let work = |(input, gradient): (&[f32], &[f32]),
                    input_gradient: Option<&mut [f32]>,
                    partial: &mut [f32],
                    scratch: &mut Scratch| {
            self.backward_chunk(&kernel, input, gradient, input_gradient, partial, scratch);
        };
        in_pieces(
            lengths,
            values,
            input_gradient,
            (parameter_gradient, partials),
            work,
        );
    }

    fn backward_kernel<'a>(&'a self, kernel: &'a [f32], input_gradient: bool) -> Kernel<'a> {
        if self.groups > 1 {
            return match Depthwise::new(self) {
                Some(depthwise) => Kernel::Depthwise(depthwise, kernel),
                None => Kernel::Grouped(Grouped::new(self), kernel),
            };
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(shifted) = Shifted::new(self) {
            let packed = if input_gradient {
                shifted.pack_backward(kernel)
            } else {
                Vec::new()
            };
            return Kernel::Shifted(shifted, packed);
        }
        let _ = input_gradient;
        Kernel::Matrix(View::new(kernel, self.filters, self.depth()))
    }

    fn backward_chunk(
        &self,
        kernel: &Kernel<'_>,
        input: &[f32],
        gradient: &[f32],
        mut input_gradient: Option<&mut [f32]>,
        partial: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (kernel_gradient, bias_gradient) = partial.split_at_mut(self.filters * self.depth());
        if self.bias {
            self.sum_bias(gradient, bias_gradient);
        }
        let kernel = match kernel {
            Kernel::Matrix(kernel) => kernel,
            Kernel::Grouped(grouped, kernel) => {
                let values = (input, gradient);
                return grouped.backward(kernel, values, input_gradient, kernel_gradient, scratch);
            }
            Kernel::Depthwise(depthwise, kernel) => {
                let values = (input, gradient);
                return depthwise.backward(
                    kernel,
                    values,
                    input_gradient,
                    kernel_gradient,
                    scratch,
                );
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Shifted(shifted, packed) => {
                kernel_gradient.fill(0.0);
                let samples = input
                    .chunks_exact(self.image())
                    .zip(gradient.chunks_exact(self.output()));
                for (sample, (input, gradient)) in samples.enumerate() {
                    let start = sample * self.image();
                    let image = input_gradient
                        .as_deref_mut()
                        .map(|images| &mut images[start..start + self.image()]);
                    shifted.backward(packed, input, gradient, image, kernel_gradient, scratch);
                }
                return;
            }
        };
        let group = self.group();
        let (images, outputs) = (group * self.image(), group * self.output());
        let groups = input.chunks(images).zip(gradient.chunks(outputs));
        for (index, (input, gradient)) in groups.enumerate() {
            let columns = input.len() / self.image() * self.window.out_area();
            let unfolded = sized(&mut scratch.columns, self.depth() * columns);
            self.unfold(input, unfolded, columns);
            let gradient = if columns == self.window.out_area() {
                gradient
            } else {
                let grouped = sized(&mut scratch.grouped, self.filters * columns);
                self.for_each_plane(columns, |grouped_at, at| {
                    grouped[grouped_at].copy_from_slice(&gradient[at]);
                });
                grouped
            };
            let gradient = View::new(gradient, self.filters, columns);
            let unfolded = View::new(unfolded, self.depth(), columns);
            gemm(kernel_gradient, index > 0, gradient, unfolded.transposed());
            if let Some(input_gradient) = input_gradient.as_deref_mut() {
                let unfolded = sized(&mut scratch.column_gradient, self.depth() * columns);
                gemm(unfolded, false, kernel.transposed(), gradient);
                let start = index * images;
                let end = input_gradient.len().min(start + images);
                self.fold(unfolded, columns, &mut input_gradient[start..end]);
            }
        }
    }

    /// Sums of the planes, sample by sample.
    fn sum_bias(&self, gradient: &[f32], bias_gradient: &mut [f32]) {
        bias_gradient.fill(0.0);
        for sample in gradient.chunks_exact(self.output()) {
            let planes = sample.chunks_exact(self.window.out_area());
            for (sum, plane) in bias_gradient.iter_mut().zip(planes) {
                *sum += vectorized(
                    #[inline(always)]
                    || sum_lanes(plane),
                );
            }
        }
    }

    /// Images to the matrix [channels * taps, columns]; 0 where a tap lies outside.
    fn unfold(&self, input: &[f32], unfolded: &mut [f32], columns: usize) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        for (sample, input) in input.chunks_exact(self.image()).enumerate() {
            for (row, unfolded) in unfolded.chunks_exact_mut(columns).enumerate() {
                let plane = &input[row / self.window.taps() * area..][..area];
                let tap = Tap::new(&self.window, row % self.window.taps());
                let unfolded = &mut unfolded[sample * out_area..(sample + 1) * out_area];
                for (oy, line) in unfolded.chunks_exact_mut(self.window.out_width).enumerate() {
                    match tap.row(&self.window, oy) {
                        Some(y) => {
                            let source = &plane[y * self.window.width..][..self.window.width];
                            tap.read(&self.window, source, line);
                        }
                        None => line.fill(0.0),
                    }
                }
            }
        }
    }

    /// The adjoint of `unfold`: overwrites the images.
    fn fold(&self, unfolded: &[f32], columns: usize, images: &mut [f32]) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        images.fill(0.0);
        for (sample, image) in images.chunks_exact_mut(self.image()).enumerate() {
            for (row, unfolded) in unfolded.chunks_exact(columns).enumerate() {
                let plane = &mut image[row / self.window.taps() * area..][..area];
                let tap = Tap::new(&self.window, row % self.window.taps());
                let unfolded = &unfolded[sample * out_area..(sample + 1) * out_area];
                for (oy, line) in unfolded.chunks_exact(self.window.out_width).enumerate() {
                    if let Some(y) = tap.row(&self.window, oy) {
                        let target = &mut plane[y * self.window.width..][..self.window.width];
                        tap.add(&self.window, line, target);
                    }
                }
            }
        }
    }
}

/// Sum in 16 lanes, so that the order is fixed and vectors are used.
#[inline(always)]
fn sum_lanes(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        add(&mut lanes, values);
    }
    add(&mut lanes, rest);
    lanes.iter().sum()
}

/// A backward pass in fixed pieces of a batch, whose gradients of the parameters are then summed in their order.
/// `lengths`: values of a sample, in and out. `work` gets a piece of the input and of the gradient, of the gradient of the
/// input, and where the piece's own gradient of the parameters goes.
fn in_pieces(
    (len, out): (usize, usize),
    (input, gradient): (&[f32], &[f32]),
    input_gradient: Option<&mut [f32]>,
    (parameter_gradient, partials): (&mut [f32], &mut Vec<f32>),
    work: impl Fn((&[f32], &[f32]), Option<&mut [f32]>, &mut [f32], &mut Scratch) + Sync,
) {
    let samples = gradient.len() / out;
    let chunk = samples.div_ceil(CHUNKS);
    let chunks = samples.div_ceil(chunk);
    let partials = sized(partials, parameter_gradient.len() * chunks);
    let mut input_gradients: Vec<Option<&mut [f32]>> = match input_gradient {
        Some(gradient) => gradient.chunks_mut(chunk * len).map(Some).collect(),
        None => (0..chunks).map(|_| None).collect(),
    };
    gradient
        .par_chunks(chunk * out)
        .zip(input.par_chunks(chunk * len))
        .zip(input_gradients.par_iter_mut())
        .zip(partials.par_chunks_mut(parameter_gradient.len()))
        .for_each(|(((gradient, input), target), partial)| {
            with_scratch(|scratch| {
                work((input, gradient), target.as_deref_mut(), partial, scratch)
            });
        });
    sum_partials(parameter_gradient, partials);
}

/// sum = partials in order.
fn sum_partials(sum: &mut [f32], partials: &[f32]) {
    let len = sum.len();
    sum.par_chunks_mut(BLOCK).enumerate().for_each(|(i, sum)| {
        let range = i * BLOCK..i * BLOCK + sum.len();
        let mut blocks = partials
            .chunks_exact(len)
            .map(|partial| &partial[range.clone()]);
        if let Some(first) = blocks.next() {
            sum.copy_from_slice(first);
        }
        blocks.for_each(|block| {
            vectorized(
                #[inline(always)]
                || add(sum, block),
            );
        });
    });
}
