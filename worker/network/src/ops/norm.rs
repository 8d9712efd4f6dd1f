//! Normalization within a sample: of its features (Ba et al. 2016) or of groups of its channels (Wu and He 2018).

use rayon::prelude::*;
use trainyard_common::network;

use super::batch_norm::{LANES, reduce_plane};
use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;
/// What is known of a row: its mean, what rounding took from that, and 1 / sqrt(variance + epsilon).
const MOMENTS: usize = 3;
type Moments = [f32; MOMENTS];

/// Parameters: gamma and beta [channels]. A row is `width` values, normalized together.
#[derive(Debug)]
pub(super) struct Norm(pub(super) network::Norm);

impl std::ops::Deref for Norm {
    type Target = network::Norm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for Norm {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept) {
        kept.values.resize(output.len() / self.width * MOMENTS, 0.0);
        let task = self.rows() * self.width;
        output
            .par_chunks_mut(task)
            .zip(inputs[0].par_chunks(task))
            .zip(kept.values.par_chunks_mut(self.rows() * MOMENTS))
            .for_each(|((output, input), moments)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = output
                            .chunks_exact_mut(self.width)
                            .zip(input.chunks_exact(self.width))
                            .zip(moments.as_chunks_mut::<MOMENTS>().0);
                        for (row, ((output, input), moments)) in rows.enumerate() {
                            *moments = self.moments(input);
                            self.normalize(at, row, input, *moments, output);
                        }
                    },
                );
            });
    }

    /// With x^ = (x - mean) inverse and a = gamma dy: dx = inverse (a - mean(a) - x^ mean(a x^)), dgamma = sum(dy x^),
    /// dbeta = sum(dy).
    fn backward(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        kept: &mut Kept,
    ) {
        let task = self.rows() * self.width;
        let tasks = gradient.len().div_ceil(task);
        let partial = 2 * self.channels;
        let Kept {
            values, scratch, ..
        } = kept;
        scratch.clear();
        scratch.resize(tasks * partial, 0.0);
        let pieces = gradient
            .par_chunks(task)
            .zip(known.inputs[0].par_chunks(task))
            .zip(values.par_chunks(self.rows() * MOMENTS))
            .zip(scratch.par_chunks_mut(partial));
        let piece = |gradient, input, moments, sums: &mut [f32], target: Option<&mut [f32]>| {
            vectorized(
                #[inline(always)]
                || self.differentiate(at, gradient, input, moments, sums, target),
            );
        };
        match targets[0].as_deref_mut() {
            Some(target) => pieces
                .zip(target.par_chunks_mut(task))
                .for_each(|((((g, x), m), sums), target)| piece(g, x, m, sums, Some(target))),
            None => pieces.for_each(|(((g, x), m), sums)| piece(g, x, m, sums, None)),
        }
        for (place, total) in parameter_gradient.iter_mut().enumerate() {
            let parts = scratch[place..].iter().step_by(partial);
            *total = parts.map(|&part| f64::from(part)).sum::<f64>() as f32;
        }
    }
}

impl Norm {
    /// Rows of one task: those of whole samples, so that all tasks begin at the same channel.
    fn rows(&self) -> usize {
        BLOCK.next_multiple_of(self.sample()) / self.width
    }

    /// Values after which the parameters begin anew.
    fn sample(&self) -> usize {
        self.channels * self.area
    }

    /// The first channel of a row, counted from the first of a task.
    fn first_channel(&self, row: usize) -> usize {
        row * self.width % self.sample() / self.area
    }

    #[inline(always)]
    fn moments(&self, input: &[f32]) -> Moments {
        let count = input.len() as f64;
        let total = reduce_plane(input, input, &|x, _, _| (x, 0.0), 0.0);
        let mean = (total.0 / count) as f32;
        let (rest, square) = reduce_plane(
            input,
            input,
            &|x, _, mean| (x - mean, (x - mean) * (x - mean)),
            mean,
        );
        // The mean was rounded to f32; what is left of it corrects mean and variance.
        let rest = rest / count;
        let variance = (square / count - rest * rest).max(0.0);
        let inverse = 1.0 / (variance + self.epsilon).sqrt();
        [mean, rest as f32, inverse as f32]
    }

    #[inline(always)]
    fn normalize(
        &self,
        at: &At<'_>,
        row: usize,
        input: &[f32],
        moments: Moments,
        output: &mut [f32],
    ) {
        let (first, area) = (self.first_channel(row), self.area);
        let (gamma, beta) = (&at.parameters[0][first..], &at.parameters[1][first..]);
        if area == 1 {
            let parameters = gamma.iter().zip(beta);
            for ((output, &x), (&gamma, &beta)) in output.iter_mut().zip(input).zip(parameters) {
                *output = normal(x, moments) * gamma + beta;
            }
            return;
        }
        let planes = output.chunks_exact_mut(area).zip(input.chunks_exact(area));
        for ((output, input), (&gamma, &beta)) in planes.zip(gamma.iter().zip(beta)) {
            for (output, &x) in output.iter_mut().zip(input) {
                *output = normal(x, moments) * gamma + beta;
            }
        }
    }

    /// The rows of one task; `sums` gets dgamma and dbeta of them.
    #[inline(always)]
    fn differentiate(
        &self,
        at: &At<'_>,
        gradient: &[f32],
        input: &[f32],
        moments: &[f32],
        sums: &mut [f32],
        mut target: Option<&mut [f32]>,
    ) {
        let (gamma_sums, beta_sums) = sums.split_at_mut(self.channels);
        let moments = moments.as_chunks::<MOMENTS>().0;
        let rows = gradient
            .chunks_exact(self.width)
            .zip(input.chunks_exact(self.width));
        for (row, ((dy, x), &moments)) in rows.zip(moments).enumerate() {
            let (first, area) = (self.first_channel(row), self.area);
            let gamma = &at.parameters[0][first..];
            let channels = gamma_sums[first..].iter_mut().zip(&mut beta_sums[first..]);
            let (mut sum, mut product) = (0.0, 0.0);
            if area == 1 {
                for (((own, beta), &x), &dy) in channels.zip(x).zip(dy) {
                    *own += dy * normal(x, moments);
                    *beta += dy;
                }
                (sum, product) = scaled_sums(dy, x, gamma, moments);
            } else {
                let planes = dy.chunks_exact(area).zip(x.chunks_exact(area));
                for (((own, beta), (dy, x)), &gamma) in channels.zip(planes).zip(gamma) {
                    let (of_dy, of_product) =
                        reduce_plane(dy, x, &|dy, x, _| (dy, dy * normal(x, moments)), 0.0);
                    *own += of_product as f32;
                    *beta += of_dy as f32;
                    sum += f64::from(gamma) * of_dy;
                    product += f64::from(gamma) * of_product;
                }
            }
            if let Some(target) = target.as_deref_mut() {
                let count = self.width as f64;
                let means = ((sum / count) as f32, (product / count) as f32);
                let target = &mut target[row * self.width..][..self.width];
                self.slopes((dy, x, gamma), moments, means, target);
            }
        }
    }

    /// dx of a row, by the means of a and of a x^.
    #[inline(always)]
    fn slopes(
        &self,
        (dy, x, gamma): (&[f32], &[f32], &[f32]),
        moments: Moments,
        (mean, product): (f32, f32),
        target: &mut [f32],
    ) {
        let (area, inverse) = (self.area, moments[2]);
        if area == 1 {
            let values = dy.iter().zip(x).zip(gamma);
            for (target, ((&dy, &x), &gamma)) in target.iter_mut().zip(values) {
                *target = inverse * (dy * gamma - mean - normal(x, moments) * product);
            }
            return;
        }
        let planes = dy.chunks_exact(area).zip(x.chunks_exact(area)).zip(gamma);
        for (target, ((dy, x), &gamma)) in target.chunks_exact_mut(area).zip(planes) {
            for (target, (&dy, &x)) in target.iter_mut().zip(dy.iter().zip(x)) {
                *target = inverse * (dy * gamma - mean - normal(x, moments) * product);
            }
        }
    }
}

/// x^ = (x - mean) inverse.
#[inline(always)]
fn normal(x: f32, [mean, rest, inverse]: Moments) -> f32 {
    ((x - mean) - rest) * inverse
}

/// The sums of a = gamma dy and of a x^, in a fixed order.
#[inline(always)]
fn scaled_sums(dy: &[f32], x: &[f32], gamma: &[f32], moments: Moments) -> (f64, f64) {
    let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
    let chunks = dy
        .chunks(LANES)
        .zip(x.chunks(LANES))
        .zip(gamma.chunks(LANES));
    for ((dy, x), gamma) in chunks {
        let lanes = first.iter_mut().zip(&mut second);
        for ((first, second), ((&dy, &x), &gamma)) in lanes.zip(dy.iter().zip(x).zip(gamma)) {
            *first += dy * gamma;
            *second += dy * gamma * normal(x, moments);
        }
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum();
    (total(first), total(second))
}
