//! Depthwise convolution: every channel has filters of its own, so that there is no matrix product in it.
//!
//! A padded plane is cut into phases, by rows and columns modulo the strides. Within a phase, what a tap reads for the
//! output position p = y width + x lies a fixed shift from p: one long loop over the plane for all strides and
//! dilations. The last positions of each row are computed and thrown away.

use rayon::prelude::*;
use trainyard_common::network::Window;

use super::super::activation::relu;
use super::{Conv, Scratch, sized, with_scratch};
use crate::simd::vectorized;

/// Positions put out at once: 4 vectors of AVX2, whose sums hide the latency of a multiply-add.
const LANES: usize = 32;
/// Output values of one task, at least.
const BLOCK: usize = 1 << 14;
/// Most values of a padded plane beside those of image and output: kernels that reach over more (by dilation) are left
/// to `grouped`, which stores no padding.
const MOST_PADDING: usize = 8;

pub(super) struct Depthwise {
    window: Window,
    channels: usize,
    /// Filters of a channel.
    multiplier: usize,
    relu: bool,
    /// Of rows, in output and phases.
    width: usize,
    /// Positions of an output plane with those that are thrown away, in whole blocks.
    len: usize,
    /// Values of a phase that are read.
    held: usize,
    /// Distance of phases.
    phase: usize,
    /// (phase, shift) of each tap.
    taps: Vec<(usize, usize)>,
    /// The largest shift.
    reach: usize,
}

impl Depthwise {
    /// `None` for anything else.
    pub(super) fn new(conv: &Conv) -> Option<Self> {
        let w = conv.window;
        let (down, across) = ((w.kh - 1) * w.dh, (w.kw - 1) * w.dw);
        let width = w.out_width + across / w.sw;
        let rows = w.out_height + down / w.sh;
        let reach = down / w.sh * width + across / w.sw;
        let len = (w.out_height * width).next_multiple_of(LANES);
        let taps = (0..w.taps()).map(|tap| {
            let (y, x) = (tap / w.kw * w.dh, tap % w.kw * w.dw);
            let phase = y % w.sh * w.sw + x % w.sw;
            (phase, y / w.sh * width + x / w.sw)
        });
        let held = (rows * width).next_multiple_of(LANES);
        let phase = held.max(len + reach);
        let most = MOST_PADDING.saturating_mul(w.area() + w.out_area() + LANES);
        let fits =
            conv.groups == conv.channels && phase.saturating_mul(w.sh.saturating_mul(w.sw)) <= most;
        fits.then(|| Self {
            window: w,
            channels: conv.channels,
            multiplier: conv.filters / conv.channels,
            relu: conv.relu,
            width,
            len,
            held,
            phase,
            taps: taps.collect(),
            reach,
        })
    }

    fn phases(&self) -> usize {
        self.window.sh * self.window.sw
    }

    /// Where each tap reads in the padded plane.
    fn offsets(&self) -> Vec<usize> {
        let offset = |&(phase, shift): &(usize, usize)| phase * self.phase + shift;
        self.taps.iter().map(offset).collect()
    }

    pub(super) fn forward(
        &self,
        kernel: &[f32],
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
    ) {
        let (area, out) = (self.window.area(), self.multiplier * self.window.out_area());
        let planes = (BLOCK / out).max(1);
        let offsets = self.offsets();
        output
            .par_chunks_mut(planes * out)
            .zip(input.par_chunks(planes * area))
            .enumerate()
            .for_each(|(task, (output, input))| {
                with_scratch(|scratch| {
                    let padded = sized(&mut scratch.columns, self.phases() * self.phase);
                    padded.fill(0.0);
                    let sums = sized(&mut scratch.grouped, self.len);
                    let images = output.chunks_exact_mut(out).zip(input.chunks_exact(area));
                    for (at, (output, image)) in images.enumerate() {
                        self.pad(image, padded);
                        let channel = (task * planes + at) % self.channels;
                        let filters = output.chunks_exact_mut(self.window.out_area());
                        for (own, plane) in filters.enumerate() {
                            let filter = channel * self.multiplier + own;
                            let weights = self.weights(kernel, filter);
                            let bias = bias.map_or(0.0, |bias| bias[filter]);
                            vectorized(
                                #[inline(always)]
                                || {
                                    correlate(sums, padded, weights, &offsets);
                                    self.put_out(sums, bias, plane);
                                },
                            );
                        }
                    }
                });
            });
    }

    fn weights<'a>(&self, kernel: &'a [f32], filter: usize) -> &'a [f32] {
        &kernel[filter * self.taps.len()..(filter + 1) * self.taps.len()]
    }

    #[inline(always)]
    fn put_out(&self, sums: &[f32], bias: f32, plane: &mut [f32]) {
        let rows = plane.chunks_exact_mut(self.window.out_width);
        for (row, sums) in rows.zip(sums.chunks(self.width)) {
            row.iter_mut()
                .zip(sums)
                .for_each(|(value, sum)| *value = sum + bias);
            if self.relu {
                relu(row);
            }
        }
    }

    /// Writes the gradients of the kernel, summed over these samples in their order, and of the images.
    pub(super) fn backward(
        &self,
        kernel: &[f32],
        (input, gradient): (&[f32], &[f32]),
        mut input_gradient: Option<&mut [f32]>,
        kernel_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        let offsets = self.offsets();
        let padded = sized(&mut scratch.columns, self.phases() * self.phase);
        padded.fill(0.0);
        // `reach` zeros lie before the gradient, and zeros between its rows and behind it.
        let spread = sized(
            &mut scratch.column_gradient,
            self.reach + self.held.max(self.len),
        );
        spread.fill(0.0);
        let phases = sized(&mut scratch.grouped, self.phases() * self.held);
        kernel_gradient.fill(0.0);
        let images = input.chunks_exact(area);
        let gradients = gradient.chunks_exact(self.multiplier * out_area);
        for (at, (image, gradients)) in images.zip(gradients).enumerate() {
            self.pad(image, padded);
            let channel = at % self.channels;
            for (own, gradient) in gradients.chunks_exact(out_area).enumerate() {
                let filter = channel * self.multiplier + own;
                self.spread(gradient, &mut spread[self.reach..]);
                let sums = &mut kernel_gradient[filter * self.taps.len()..][..self.taps.len()];
                let weights = self.weights(kernel, filter);
                vectorized(
                    #[inline(always)]
                    || {
                        dots(sums, &spread[self.reach..][..self.len], padded, &offsets);
                        if input_gradient.is_some() {
                            self.spread_back(spread, weights, own > 0, phases);
                        }
                    },
                );
            }
            if let Some(images) = input_gradient.as_deref_mut() {
                self.take_back(phases, &mut images[at * area..(at + 1) * area]);
            }
        }
    }

    /// Each phase's gradient: the taps that read there, the other way round.
    #[inline(always)]
    fn spread_back(&self, spread: &[f32], weights: &[f32], add: bool, phases: &mut [f32]) {
        for (phase, sums) in phases.chunks_exact_mut(self.held).enumerate() {
            let own = self.taps.iter().zip(weights);
            let own = own.filter(|((of, _), _)| *of == phase);
            for (block, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let mut lanes = if add { *sums } else { [0.0; LANES] };
                for ((_, shift), &weight) in own.clone() {
                    let values = lanes_at(spread, self.reach - shift + block * LANES);
                    multiply_add(&mut lanes, values, weight);
                }
                *sums = lanes;
            }
        }
    }

    /// Rows of the output, `width` apart.
    fn spread(&self, gradient: &[f32], spread: &mut [f32]) {
        let rows = gradient.chunks_exact(self.window.out_width);
        for (row, spread) in rows.zip(spread.chunks_mut(self.width)) {
            spread[..row.len()].copy_from_slice(row);
        }
    }

    /// (phase, its row, row of the image, its first column, the image's first column there) of all that is inside both.
    fn for_each_row(&self, mut visit: impl FnMut(usize, usize, usize, usize, usize)) {
        let w = &self.window;
        let rows = self.held / self.width;
        for py in 0..w.sh {
            for row in 0..rows {
                let Some(y) = (row * w.sh + py).checked_sub(w.top) else {
                    continue;
                };
                if y >= w.height {
                    break;
                }
                for px in 0..w.sw {
                    let first = w.left.saturating_sub(px).div_ceil(w.sw);
                    let x = first * w.sw + px - w.left;
                    if first < self.width && x < w.width {
                        visit(py * w.sw + px, row, y, first, x);
                    }
                }
            }
        }
    }

    /// The image into the phases; what lies outside of it is left as it is.
    fn pad(&self, image: &[f32], padded: &mut [f32]) {
        let w = &self.window;
        self.for_each_row(|phase, row, y, first, x| {
            let to = &mut padded[phase * self.phase + row * self.width..][first..self.width];
            let from = &image[y * w.width + x..(y + 1) * w.width];
            if w.sw == 1 {
                let count = to.len().min(from.len());
                to[..count].copy_from_slice(&from[..count]);
            } else {
                let pairs = to.iter_mut().zip(from.iter().step_by(w.sw));
                pairs.for_each(|(to, from)| *to = *from);
            }
        });
    }

    /// The phases into an image; what no tap reads has no gradient.
    fn take_back(&self, phases: &[f32], image: &mut [f32]) {
        let w = &self.window;
        image.fill(0.0);
        self.for_each_row(|phase, row, y, first, x| {
            let from = &phases[phase * self.held + row * self.width..][first..self.width];
            let to = &mut image[y * w.width + x..(y + 1) * w.width];
            let pairs = to.iter_mut().step_by(w.sw).zip(from);
            pairs.for_each(|(to, from)| *to = *from);
        });
    }
}

#[inline(always)]
fn lanes_at(values: &[f32], start: usize) -> &[f32; LANES] {
    let Some(lanes) = values[start..].first_chunk() else {
        unreachable!("planes are whole blocks");
    };
    lanes
}

#[inline(always)]
fn multiply_add(sums: &mut [f32; LANES], values: &[f32; LANES], weight: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = value.mul_add(weight, *sum);
    }
}

/// sums[p] = sum over taps of weight input[offset + p].
#[inline(always)]
fn correlate(sums: &mut [f32], input: &[f32], weights: &[f32], offsets: &[usize]) {
    for (block, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut lanes = [0.0; LANES];
        for (&weight, &offset) in weights.iter().zip(offsets) {
            multiply_add(&mut lanes, lanes_at(input, offset + block * LANES), weight);
        }
        *sums = lanes;
    }
}

/// sums[tap] += sum over p of gradient[p] input[offset + p].
#[inline(always)]
fn dots(sums: &mut [f32], gradient: &[f32], input: &[f32], offsets: &[usize]) {
    for (sum, &offset) in sums.iter_mut().zip(offsets) {
        let mut lanes = [0.0f32; LANES];
        for (block, gradient) in gradient.as_chunks::<LANES>().0.iter().enumerate() {
            let values = lanes_at(input, offset + block * LANES);
            for ((lane, value), gradient) in lanes.iter_mut().zip(values).zip(gradient) {
                *lane = value.mul_add(*gradient, *lane);
            }
        }
        *sum += lanes.iter().sum::<f32>();
    }
}
