//! Maximum, minimum and average pooling over windows of an image.

use rayon::prelude::*;

use trainyard_common::network::{self, PoolKind};

use super::{At, Kept, Kernel, Known};

/// Input values handled by one task, at least.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Pool(pub(super) network::Pool);

impl std::ops::Deref for Pool {
    type Target = network::Pool;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for Pool {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept) {
        match self.kind {
            PoolKind::Max => {
                kept.picks.resize(output.len(), 0);
                self.pick(inputs[0], output, &mut kept.picks, |value, best| {
                    value > best
                });
            }
            PoolKind::Min => {
                kept.picks.resize(output.len(), 0);
                self.pick(inputs[0], output, &mut kept.picks, |value, best| {
                    value < best
                });
            }
            PoolKind::Average => self.forward_average(inputs[0], output),
        }
    }

    fn backward(
        &self,
        _: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        kept: &mut Kept,
    ) {
        let Some(input_gradient) = targets[0].as_deref_mut() else {
            return;
        };
        match self.kind {
            PoolKind::Max | PoolKind::Min => {
                self.backward_picks(&kept.picks, gradient, input_gradient)
            }
            PoolKind::Average => self.backward_average(gradient, input_gradient),
        }
    }
}

/// The part of a window along one dimension that lies inside the image.
pub(super) fn inside(
    position: usize,
    stride: usize,
    before: usize,
    k: usize,
    n: usize,
) -> (usize, usize) {
    let start = position * stride;
    (start.saturating_sub(before), (start + k - before).min(n))
}

impl Pool {
    fn planes(&self) -> usize {
        (BLOCK / self.window.area()).max(1)
    }

    /// Each output is the value of its window that no other is better than; `picks` gets that value's place in its
    /// plane: of equal ones the first, row by row. NaN counts as best. Padding is never picked.
    fn pick(
        &self,
        input: &[f32],
        output: &mut [f32],
        picks: &mut [u32],
        better: impl Fn(f32, f32) -> bool + Copy + Sync,
    ) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        let planes = self.planes();
        output
            .par_chunks_mut(planes * out_area)
            .zip(picks.par_chunks_mut(planes * out_area))
            .zip(input.par_chunks(planes * area))
            .for_each(|((output, picks), input)| {
                let planes = output
                    .chunks_exact_mut(out_area)
                    .zip(picks.chunks_exact_mut(out_area))
                    .zip(input.chunks_exact(area));
                for ((output, picks), input) in planes {
                    self.pick_plane(input, output, picks, better);
                }
            });
    }

    #[inline(always)]
    fn pick_plane(
        &self,
        input: &[f32],
        output: &mut [f32],
        picks: &mut [u32],
        better: impl Fn(f32, f32) -> bool,
    ) {
        let w = &self.window;
        let out_rows = output
            .chunks_exact_mut(w.out_width)
            .zip(picks.chunks_exact_mut(w.out_width));
        for (oy, (output, picks)) in out_rows.enumerate() {
            let (top, bottom) = inside(oy, w.sh, w.top, w.kh, w.height);
            for (ox, (output, pick)) in output.iter_mut().zip(picks).enumerate() {
                let (left, right) = inside(ox, w.sw, w.left, w.kw, w.width);
                let mut place = top * w.width + left;
                let mut best = input[place];
                for y in top..bottom {
                    let start = y * w.width;
                    for (x, &value) in input[start + left..start + right].iter().enumerate() {
                        if better(value, best) || (value.is_nan() && !best.is_nan()) {
                            best = value;
                            place = start + left + x;
                        }
                    }
                }
                *output = best;
                *pick = place as u32;
            }
        }
    }

    /// Sends each gradient to the place that was picked; overlapping windows add up.
    fn backward_picks(&self, picks: &[u32], gradient: &[f32], input_gradient: &mut [f32]) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        let planes = self.planes();
        input_gradient
            .par_chunks_mut(planes * area)
            .zip(gradient.par_chunks(planes * out_area))
            .zip(picks.par_chunks(planes * out_area))
            .for_each(|((input_gradient, gradient), picks)| {
                input_gradient.fill(0.0);
                let planes = input_gradient
                    .chunks_exact_mut(area)
                    .zip(gradient.chunks_exact(out_area))
                    .zip(picks.chunks_exact(out_area));
                for ((input_gradient, gradient), picks) in planes {
                    for (&gradient, &pick) in gradient.iter().zip(picks) {
                        input_gradient[pick as usize] += gradient;
                    }
                }
            });
    }

    /// Each output is the mean of its window, or of the part of it that lies inside the image (as TensorFlow).
    fn forward_average(&self, input: &[f32], output: &mut [f32]) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        let planes = self.planes();
        output
            .par_chunks_mut(planes * out_area)
            .zip(input.par_chunks(planes * area))
            .for_each(|(output, input)| {
                let planes = output
                    .chunks_exact_mut(out_area)
                    .zip(input.chunks_exact(area));
                for (output, input) in planes {
                    self.for_each_window(|place, rows, columns, count| {
                        let mut sum = 0.0;
                        for y in rows.0..rows.1 {
                            let start = y * self.window.width;
                            sum += input[start + columns.0..start + columns.1]
                                .iter()
                                .sum::<f32>();
                        }
                        output[place] = sum / count;
                    });
                }
            });
    }

    fn backward_average(&self, gradient: &[f32], input_gradient: &mut [f32]) {
        let (area, out_area) = (self.window.area(), self.window.out_area());
        let planes = self.planes();
        input_gradient
            .par_chunks_mut(planes * area)
            .zip(gradient.par_chunks(planes * out_area))
            .for_each(|(input_gradient, gradient)| {
                input_gradient.fill(0.0);
                let planes = input_gradient
                    .chunks_exact_mut(area)
                    .zip(gradient.chunks_exact(out_area));
                for (input_gradient, gradient) in planes {
                    self.for_each_window(|place, rows, columns, count| {
                        let share = gradient[place] / count;
                        for y in rows.0..rows.1 {
                            let start = y * self.window.width;
                            input_gradient[start + columns.0..start + columns.1]
                                .iter_mut()
                                .for_each(|value| *value += share);
                        }
                    });
                }
            });
    }

    /// Calls `visit(output place, rows, columns, values counted)` for each window of a plane.
    #[inline(always)]
    fn for_each_window(&self, mut visit: impl FnMut(usize, (usize, usize), (usize, usize), f32)) {
        let w = &self.window;
        for oy in 0..w.out_height {
            let rows = inside(oy, w.sh, w.top, w.kh, w.height);
            for ox in 0..w.out_width {
                let columns = inside(ox, w.sw, w.left, w.kw, w.width);
                let (down, across) = match self.count_padding {
                    false => (rows.1 - rows.0, columns.1 - columns.0),
                    true => (
                        padded(oy, w.sh, w.kh, w.top + w.height + w.bottom),
                        padded(ox, w.sw, w.kw, w.left + w.width + w.right),
                    ),
                };
                visit(oy * w.out_width + ox, rows, columns, (down * across) as f32);
            }
        }
    }
}

/// Length of a window within the padded image. With `ceil` it may reach over that, which counts for nothing, as in PyTorch.
pub(super) fn padded(position: usize, stride: usize, k: usize, n: usize) -> usize {
    k.min(n - position * stride)
}
