//! Batch normalization (Ioffe and Szegedy 2015), over the samples (and pixels) of a virtual shard.

use rayon::prelude::*;

use trainyard_common::network;

use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Independent partial sums of a reduction: fixes its order and lets it use wide vectors.
pub(super) const LANES: usize = 16;
/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

/// Parameters: gamma and beta [channels]. Statistics: two values a channel.
#[derive(Debug)]
pub(super) struct BatchNorm(pub(super) network::BatchNorm);

impl std::ops::Deref for BatchNorm {
    type Target = network::BatchNorm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for BatchNorm {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], kept: &mut Kept) {
        if at.training {
            kept.statistics.resize(2 * self.channels, 0.0);
        }
        if at.training && !self.frozen {
            kept.values.resize(3 * self.channels, 0.0);
            self.forward_training(
                at,
                inputs[0],
                output,
                &mut kept.values,
                &mut kept.statistics,
            );
        } else {
            self.forward_inference(at, inputs[0], output);
        }
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
        if self.frozen {
            parameter_gradient.fill(0.0);
            return self.differentiate_frozen(at, gradient);
        }
        let target = targets[0].as_deref_mut();
        let moments = &kept.values;
        self.differentiate(
            at,
            known.inputs[0],
            moments,
            gradient,
            target,
            parameter_gradient,
        );
    }

    fn apply_statistics(&self, summed: &[f32], samples: f64, running: &mut [f32]) {
        if !self.frozen {
            self.apply(summed, samples, running);
        }
    }
}

impl BatchNorm {
    /// y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with the biased variance of these
    /// values. `moments` ([3, channels]) gets, for backward, the mean in f32, 1 / sqrt(variance +
    /// epsilon), and what rounding took from the mean: with values far from 0 it counts.
    ///
    /// `statistics` gets, for each channel, the sums of (x - K) and of (x - K)^2 about the running
    /// mean K: they add up over shards, and a shift near the mean keeps f32 from cancelling.
    fn forward_training(
        &self,
        at: &At<'_>,
        input: &[f32],
        output: &mut [f32],
        moments: &mut [f32],
        statistics: &mut [f32],
    ) {
        let count = (input.len() / self.channels) as f64;
        let sums = self.reduce(input, input, |x, _, _| (x, 0.0), &vec![0.0; self.channels]);
        let means: Vec<f32> = sums.iter().map(|sum| (sum.0 / count) as f32).collect();
        let squares = self.reduce(
            input,
            input,
            #[inline(always)]
            |x, _, mean| (x - mean, (x - mean) * (x - mean)),
            &means,
        );
        let (mean_out, others) = moments.split_at_mut(self.channels);
        let (inverse_out, rest_out) = others.split_at_mut(self.channels);
        let (first, second) = statistics.split_at_mut(self.channels);
        for c in 0..self.channels {
            // The mean was rounded to f32; what is left of it corrects mean and variance.
            let rest = squares[c].0 / count;
            let mean = f64::from(means[c]) + rest;
            let variance = (squares[c].1 / count - rest * rest).max(0.0);
            let shift = mean - f64::from(at.running[c]);
            mean_out[c] = means[c];
            rest_out[c] = rest as f32;
            inverse_out[c] = (1.0 / (variance + self.epsilon).sqrt()) as f32;
            first[c] = (count * shift) as f32;
            second[c] = (count * (variance + shift * shift)) as f32;
        }
        self.normalize(at, input, output, mean_out, inverse_out, rest_out);
    }

    /// With the running statistics instead of the batch's.
    fn forward_inference(&self, at: &At<'_>, input: &[f32], output: &mut [f32]) {
        let means = &at.running[..self.channels];
        let inverse = self.running_inverse(at);
        self.normalize(
            at,
            input,
            output,
            means,
            &inverse,
            &vec![0.0; self.channels],
        );
    }

    fn running_inverse(&self, at: &At<'_>) -> Vec<f32> {
        let variances = at.running[self.channels..].iter();
        let inverse = variances.map(|&variance| 1.0 / (f64::from(variance) + self.epsilon).sqrt());
        inverse.map(|inverse| inverse as f32).collect()
    }

    fn normalize(
        &self,
        at: &At<'_>,
        input: &[f32],
        output: &mut [f32],
        means: &[f32],
        inverse: &[f32],
        rest: &[f32],
    ) {
        let (gamma, beta) = (at.parameters[0], at.parameters[1]);
        self.map(input, input, output, |c, x, _| {
            let scale = inverse[c] * gamma[c];
            (x - means[c]) * scale + (beta[c] - rest[c] * scale)
        });
    }

    /// dx = gamma / sqrt(variance + epsilon) (dy - mean(dy) - xhat mean(dy xhat)),
    /// dgamma = sum(dy xhat), dbeta = sum(dy). `parameter_gradient` is the flat part of gamma, beta.
    fn differentiate(
        &self,
        at: &At<'_>,
        input: &[f32],
        moments: &[f32],
        gradient: &[f32],
        input_gradient: Option<&mut [f32]>,
        parameter_gradient: &mut [f32],
    ) {
        let count = (input.len() / self.channels) as f64;
        let (means, others) = moments.split_at(self.channels);
        let (inverse, rest) = others.split_at(self.channels);
        let mut sums = self.reduce(
            input,
            gradient,
            #[inline(always)]
            |x, dy, mean| (dy, dy * (x - mean)),
            means,
        );
        let (gamma_gradient, beta_gradient) = parameter_gradient.split_at_mut(self.channels);
        for (c, sum) in sums.iter_mut().enumerate() {
            sum.1 -= f64::from(rest[c]) * sum.0;
            gamma_gradient[c] = (sum.1 * f64::from(inverse[c])) as f32;
            beta_gradient[c] = sum.0 as f32;
        }
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let gamma = at.parameters[0];
        // Per channel: factor of dy, of (x - mean), and the constant.
        let factors: Vec<[f32; 3]> = (0..self.channels)
            .map(|c| {
                let (scale, inverse) = (
                    f64::from(gamma[c]) * f64::from(inverse[c]),
                    f64::from(inverse[c]),
                );
                let slope = -scale * inverse * inverse * sums[c].1 / count;
                let constant = -scale * sums[c].0 / count - slope * f64::from(rest[c]);
                [scale as f32, slope as f32, constant as f32]
            })
            .collect();
        self.map(input, gradient, input_gradient, |c, x, dy| {
            let [scale, slope, constant] = factors[c];
            scale * dy + slope * (x - means[c]) + constant
        });
    }

    /// dx = gamma / sqrt(running variance + epsilon) dy, in place.
    fn differentiate_frozen(&self, at: &At<'_>, gradient: &mut [f32]) {
        let inverse = self.running_inverse(at);
        let scales: Vec<f32> = inverse
            .iter()
            .zip(at.parameters[0])
            .map(|(a, b)| a * b)
            .collect();
        let block = BLOCK.next_multiple_of(self.channels * self.area);
        gradient.par_chunks_mut(block).for_each(|gradient| {
            let planes = gradient
                .chunks_exact_mut(self.area)
                .zip(scales.iter().cycle());
            for (plane, scale) in planes {
                plane.iter_mut().for_each(|value| *value *= scale);
            }
        });
    }

    /// running <- momentum running + (1 - momentum) batch.
    fn apply(&self, summed: &[f32], samples: f64, running: &mut [f32]) {
        let count = samples * self.area as f64;
        let (first, second) = summed.split_at(self.channels);
        let (means, variances) = running.split_at_mut(self.channels);
        for c in 0..self.channels {
            let shift = f64::from(first[c]) / count;
            let variance = (f64::from(second[c]) / count - shift * shift).max(0.0);
            let mean = f64::from(means[c]) + shift;
            let mix = |old: f32, new: f64| {
                (self.momentum * f64::from(old) + (1.0 - self.momentum) * new) as f32
            };
            means[c] = mix(means[c], mean);
            variances[c] = mix(variances[c], variance);
        }
    }

    /// output = f(channel, a, b) for each value.
    fn map(
        &self,
        a: &[f32],
        b: &[f32],
        output: &mut [f32],
        f: impl Fn(usize, f32, f32) -> f32 + Sync,
    ) {
        let row = self.channels * self.area;
        let block = BLOCK.next_multiple_of(row);
        output
            .par_chunks_mut(block)
            .zip(a.par_chunks(block))
            .zip(b.par_chunks(block))
            .for_each(|((output, a), b)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let planes = output
                            .chunks_exact_mut(self.area)
                            .zip(a.chunks_exact(self.area))
                            .zip(b.chunks_exact(self.area));
                        for (plane, ((output, a), b)) in planes.enumerate() {
                            let c = plane % self.channels;
                            for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
                                *output = f(c, a, b);
                            }
                        }
                    },
                );
            });
    }

    /// For each channel, the two sums of f(a, b, at[channel]) over its values, in a fixed order.
    fn reduce(
        &self,
        a: &[f32],
        b: &[f32],
        f: impl Fn(f32, f32, f32) -> (f32, f32) + Sync,
        at: &[f32],
    ) -> Vec<(f64, f64)> {
        if self.area == 1 {
            return self.reduce_columns(a, b, f, at);
        }
        let (area, row) = (self.area, self.channels * self.area);
        (0..self.channels)
            .into_par_iter()
            .map(|c| {
                let at = at[c];
                vectorized(
                    #[inline(always)]
                    || {
                        let mut sums = (0.0, 0.0);
                        for start in (c * area..a.len()).step_by(row) {
                            let (a, b) = (&a[start..start + area], &b[start..start + area]);
                            let plane = reduce_plane(a, b, &f, at);
                            sums = (sums.0 + plane.0, sums.1 + plane.1);
                        }
                        sums
                    },
                )
            })
            .collect()
    }

    fn reduce_columns(
        &self,
        a: &[f32],
        b: &[f32],
        f: impl Fn(f32, f32, f32) -> (f32, f32) + Sync,
        at: &[f32],
    ) -> Vec<(f64, f64)> {
        let mut sums = vec![(0.0, 0.0); self.channels];
        sums.par_chunks_mut(LANES)
            .enumerate()
            .for_each(|(block, sums)| {
                let start = block * LANES;
                let range = start..start + sums.len();
                let rows = a
                    .chunks_exact(self.channels)
                    .zip(b.chunks_exact(self.channels));
                for (a, b) in rows {
                    let values = a[range.clone()].iter().zip(&b[range.clone()]);
                    for ((sum, (&a, &b)), &at) in
                        sums.iter_mut().zip(values).zip(&at[range.clone()])
                    {
                        let (first, second) = f(a, b, at);
                        sum.0 += f64::from(first);
                        sum.1 += f64::from(second);
                    }
                }
            });
        sums
    }
}

#[inline(always)]
pub(super) fn reduce_plane(
    a: &[f32],
    b: &[f32],
    f: &impl Fn(f32, f32, f32) -> (f32, f32),
    at: f32,
) -> (f64, f64) {
    let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            let (one, two) = f(a[lane], b[lane], at);
            first[lane] += one;
            second[lane] += two;
        }
    }
    for (lane, (&a, &b)) in rest_a.iter().zip(rest_b).enumerate() {
        let (one, two) = f(a, b, at);
        first[lane] += one;
        second[lane] += two;
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum();
    (total(first), total(second))
}
