//! A convolution layer by way of `direct`: lays images out as it wants them and back.

use super::super::activation::relu;
use super::direct::{SPAN, correlate, dots, output_len, pack};
use super::{Conv, Scratch, sized};
use crate::simd::vectorized;

/// Least share of computed positions that are kept, and least positions, for this way to beat matrix
/// products (measured on 3x3 and 5x5 kernels).
const LEAST_SHARE: f64 = 0.7;
const LEAST_POSITIONS: usize = 36;

/// Sizes of the layout for one convolution of stride 1.
pub(crate) struct Shifted<'a> {
    conv: &'a Conv,
    /// Width of the padded image.
    width: usize,
    /// Shift of each tap.
    offsets: Vec<usize>,
    /// The largest of them.
    reach: usize,
    /// Positions of an output plane, with those that are thrown away.
    len: usize,
    /// Distance of planes of the padded image.
    plane: usize,
    /// Position of the image's first row in the padded image.
    start: usize,
    /// Distance of planes of the output's gradient: `reach` zeros come first.
    gradient_plane: usize,
}

impl<'a> Shifted<'a> {
    /// `None` where matrix products serve better, or the machine lacks the vectors.
    pub(crate) fn new(conv: &'a Conv) -> Option<Self> {
        let w = &conv.window;
        let width = w.out_width + w.kw - 1;
        let share = w.out_width as f64 / width as f64;
        // With more rows of padding below than the kernel reaches, the layout of the gradient would be too short.
        let fits = (w.sh, w.sw, w.dh, w.dw) == (1, 1, 1, 1)
            && w.out_height <= w.top + w.height
            && w.taps() > 1
            && share >= LEAST_SHARE
            && w.out_area() >= LEAST_POSITIONS;
        if !fits || !crate::simd::has_avx2() {
            return None;
        }
        let offsets: Vec<usize> = (0..w.taps())
            .map(|tap| tap / w.kw * width + tap % w.kw)
            .collect();
        let reach = (w.kh - 1) * width + w.kw - 1;
        let (len, start) = (w.out_height * width, w.top * width);
        Some(Self {
            conv,
            width,
            reach,
            len,
            plane: len.next_multiple_of(SPAN) + reach,
            start,
            gradient_plane: reach + start + (w.height * width).next_multiple_of(SPAN),
            offsets,
        })
    }

    /// The kernel [filters, channels, taps] for the forward pass.
    pub(crate) fn pack_forward(&self, kernel: &[f32]) -> Vec<f32> {
        let (channels, taps) = (self.conv.channels, self.offsets.len());
        let mut packed = Vec::new();
        pack(self.conv.filters, channels, taps, &mut packed, |f, c, t| {
            kernel[(f * channels + c) * taps + t]
        });
        packed
    }

    /// The kernel for the gradient of the input.
    pub(crate) fn pack_backward(&self, kernel: &[f32]) -> Vec<f32> {
        let (channels, taps) = (self.conv.channels, self.offsets.len());
        let mut packed = Vec::new();
        pack(channels, self.conv.filters, taps, &mut packed, |c, f, t| {
            kernel[(f * channels + c) * taps + t]
        });
        packed
    }

    /// One image to one output, with bias and ReLU.
    pub(crate) fn forward(
        &self,
        packed: &[f32],
        bias: Option<&[f32]>,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (w, filters) = (&self.conv.window, self.conv.filters);
        let padded = sized(&mut scratch.columns, self.conv.channels * self.plane);
        self.pad(input, padded);
        let sums = sized(&mut scratch.grouped, output_len(filters, self.len));
        correlate(
            sums,
            filters,
            self.len,
            padded,
            self.plane,
            packed,
            &self.offsets,
        );
        let stride = self.len.next_multiple_of(SPAN);
        let planes = output
            .chunks_exact_mut(w.out_area())
            .zip(sums.chunks_exact(stride));
        vectorized(
            #[inline(always)]
            || {
                for (filter, (plane, sums)) in planes.enumerate() {
                    let bias = bias.map_or(0.0, |bias| bias[filter]);
                    let rows = plane.chunks_exact_mut(w.out_width);
                    for (row, sums) in rows.zip(sums.chunks(self.width)) {
                        for (value, sum) in row.iter_mut().zip(sums) {
                            *value = sum + bias;
                        }
                        if self.conv.relu {
                            relu(row);
                        }
                    }
                }
            },
        );
    }

    /// Adds one sample's part to the kernel's gradient and writes the gradient of its image.
    pub(crate) fn backward(
        &self,
        packed: &[f32],
        input: &[f32],
        gradient: &[f32],
        input_gradient: Option<&mut [f32]>,
        kernel_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (w, channels, filters) = (&self.conv.window, self.conv.channels, self.conv.filters);
        let padded = sized(&mut scratch.columns, channels * self.plane);
        self.pad(input, padded);
        let spread = sized(&mut scratch.column_gradient, filters * self.gradient_plane);
        spread.fill(0.0);
        let planes = spread.chunks_exact_mut(self.gradient_plane);
        for (spread, plane) in planes.zip(gradient.chunks_exact(w.out_area())) {
            let rows = spread[self.reach..].chunks_mut(self.width);
            for (spread, row) in rows.zip(plane.chunks_exact(w.out_width)) {
                spread[..w.out_width].copy_from_slice(row);
            }
        }
        dots(
            kernel_gradient,
            self.len.next_multiple_of(8),
            &spread[self.reach..],
            (filters, self.gradient_plane),
            padded,
            (channels, self.plane),
            &self.offsets,
        );
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let len = w.height * self.width;
        let sums = sized(&mut scratch.grouped, output_len(channels, len));
        let back: Vec<usize> = self
            .offsets
            .iter()
            .map(|offset| self.reach + self.start - offset)
            .collect();
        correlate(
            sums,
            channels,
            len,
            spread,
            self.gradient_plane,
            packed,
            &back,
        );
        let planes = sums.chunks_exact(len.next_multiple_of(SPAN));
        for (plane, sums) in input_gradient.chunks_exact_mut(w.area()).zip(planes) {
            for (row, sums) in plane.chunks_exact_mut(w.width).zip(sums.chunks(self.width)) {
                row.copy_from_slice(&sums[w.left..w.left + w.width]);
            }
        }
    }

    /// Planes with zeros around, `plane` apart.
    fn pad(&self, input: &[f32], padded: &mut [f32]) {
        let w = &self.conv.window;
        padded.fill(0.0);
        let planes = padded.chunks_exact_mut(self.plane);
        for (padded, plane) in planes.zip(input.chunks_exact(w.area())) {
            if w.width == self.width {
                padded[self.start..self.start + w.area()].copy_from_slice(plane);
                continue;
            }
            let rows = padded[self.start..].chunks_mut(self.width);
            for (padded, row) in rows.zip(plane.chunks_exact(w.width)) {
                padded[w.left..w.left + w.width].copy_from_slice(row);
            }
        }
    }
}
