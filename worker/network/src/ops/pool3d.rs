//! Maximum, minimum and average pooling over windows of a volume.

use std::ops::Range;

use rayon::prelude::*;
use trainyard_common::network::{self, PoolKind};

use super::pool::{inside, padded};
use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Pool3d(pub(super) network::Pool3d);

impl Pool3d {
    /// Values of a volume, before and after.
    fn lengths(&self) -> (usize, usize) {
        let (w, s) = (&self.0.pool.window, &self.0.slices);
        (s.n * w.area(), s.out * w.out_area())
    }

    fn volumes(&self) -> usize {
        (BLOCK / self.lengths().0).max(1)
    }

    /// Calls `visit(output place, the window's rows in the volume, values counted)` for each window.
    #[inline(always)]
    fn for_each_window(&self, mut visit: impl FnMut(usize, Rows, f32)) {
        let (w, s) = (&self.0.pool.window, &self.0.slices);
        for oz in 0..s.out {
            let depth = inside(oz, s.stride, s.before, s.size, s.n);
            for oy in 0..w.out_height {
                let rows = inside(oy, w.sh, w.top, w.kh, w.height);
                for ox in 0..w.out_width {
                    let columns = inside(ox, w.sw, w.left, w.kw, w.width);
                    let counted = match self.0.pool.count_padding {
                        false => [depth, rows, columns].map(|(start, end)| end - start),
                        true => [
                            padded(oz, s.stride, s.size, s.before + s.n + s.after),
                            padded(oy, w.sh, w.kh, w.top + w.height + w.bottom),
                            padded(ox, w.sw, w.kw, w.left + w.width + w.right),
                        ],
                    };
                    let within = Rows {
                        depth,
                        rows,
                        columns,
                        size: (w.height, w.width),
                    };
                    let place = (oz * w.out_height + oy) * w.out_width + ox;
                    visit(place, within, counted.iter().product::<usize>() as f32);
                }
            }
        }
    }

    /// Of equal values the first, slice by slice and row by row. NaN counts as best. Padding is never picked.
    fn pick(
        &self,
        input: &[f32],
        output: &mut [f32],
        picks: &mut [u32],
        better: impl Fn(f32, f32) -> bool + Copy + Sync,
    ) {
        let ((len, out), volumes) = (self.lengths(), self.volumes());
        output
            .par_chunks_mut(volumes * out)
            .zip(picks.par_chunks_mut(volumes * out))
            .zip(input.par_chunks(volumes * len))
            .for_each(|((output, picks), input)| {
                let parts = output
                    .chunks_exact_mut(out)
                    .zip(picks.chunks_exact_mut(out));
                for ((output, picks), input) in parts.zip(input.chunks_exact(len)) {
                    self.for_each_window(|place, within, _| {
                        let mut pick = within.first();
                        let mut best = input[pick];
                        within.for_each(|row| {
                            for at in row {
                                let value = input[at];
                                if better(value, best) || (value.is_nan() && !best.is_nan()) {
                                    (best, pick) = (value, at);
                                }
                            }
                        });
                        output[place] = best;
                        picks[place] = pick as u32;
                    });
                }
            });
    }

    fn forward_average(&self, input: &[f32], output: &mut [f32]) {
        let ((len, out), volumes) = (self.lengths(), self.volumes());
        output
            .par_chunks_mut(volumes * out)
            .zip(input.par_chunks(volumes * len))
            .for_each(|(output, input)| {
                let parts = output.chunks_exact_mut(out).zip(input.chunks_exact(len));
                for (output, input) in parts {
                    self.for_each_window(|place, within, count| {
                        let mut sum = 0.0;
                        within.for_each(|row| sum += input[row].iter().sum::<f32>());
                        output[place] = sum / count;
                    });
                }
            });
    }

    fn backward_any(&self, picks: &[u32], gradient: &[f32], target: &mut [f32]) {
        let ((len, out), volumes) = (self.lengths(), self.volumes());
        target
            .par_chunks_mut(volumes * len)
            .zip(gradient.par_chunks(volumes * out))
            .enumerate()
            .for_each(|(task, (target, gradient))| {
                target.fill(0.0);
                let parts = target.chunks_exact_mut(len).zip(gradient.chunks_exact(out));
                for (own, (target, gradient)) in parts.enumerate() {
                    if self.0.pool.kind != PoolKind::Average {
                        let picks = &picks[(task * volumes + own) * out..][..out];
                        let pairs = gradient.iter().zip(picks);
                        pairs.for_each(|(&gradient, &pick)| target[pick as usize] += gradient);
                        continue;
                    }
                    self.for_each_window(|place, within, count| {
                        let share = gradient[place] / count;
                        within.for_each(|row| {
                            target[row].iter_mut().for_each(|value| *value += share);
                        });
                    });
                }
            });
    }
}

/// The part of a window that lies inside a volume of planes of `size`.
#[derive(Clone, Copy)]
struct Rows {
    depth: (usize, usize),
    rows: (usize, usize),
    columns: (usize, usize),
    size: (usize, usize),
}

impl Rows {
    fn row(&self, z: usize, y: usize) -> Range<usize> {
        let start = (z * self.size.0 + y) * self.size.1;
        start + self.columns.0..start + self.columns.1
    }

    fn first(&self) -> usize {
        self.row(self.depth.0, self.rows.0).start
    }

    #[inline(always)]
    fn for_each(&self, mut visit: impl FnMut(Range<usize>)) {
        for z in self.depth.0..self.depth.1 {
            for y in self.rows.0..self.rows.1 {
                visit(self.row(z, y));
            }
        }
    }
}

impl Kernel for Pool3d {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept) {
        let picks = &mut kept.picks;
        if self.0.pool.kind != PoolKind::Average {
            picks.resize(output.len(), 0);
        }
        match self.0.pool.kind {
            PoolKind::Max => self.pick(inputs[0], output, picks, |value, best| value > best),
            PoolKind::Min => self.pick(inputs[0], output, picks, |value, best| value < best),
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
        if let Some(target) = targets[0].as_deref_mut() {
            self.backward_any(&kept.picks, gradient, target);
        }
    }
}
