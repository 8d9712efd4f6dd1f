//! Rectification with a learned slope below 0.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Prelu(pub(super) network::Prelu);

impl Kernel for Prelu {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let (alpha, block) = (at.parameters[0], self.block());
        output
            .par_chunks_mut(block)
            .zip(inputs[0].par_chunks(block))
            .for_each(|(output, input)| {
                self.runs(output, input, |channel, output, input| {
                    let alpha = alpha[channel];
                    for (y, &x) in output.iter_mut().zip(input) {
                        *y = if x < 0.0 { alpha * x } else { x };
                    }
                });
            });
    }

    /// The gradient of the output becomes that of the input, once that of the slopes is taken.
    fn backward(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        _: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        _: &mut Kept,
    ) {
        let (input, alpha, block) = (known.inputs[0], at.parameters[0], self.block());
        let sums: Vec<Vec<f64>> = gradient
            .par_chunks_mut(block)
            .zip(input.par_chunks(block))
            .map(|(gradient, input)| {
                let mut sums = vec![0.0; alpha.len()];
                self.runs(gradient, input, |channel, gradient, input| {
                    for (d, &x) in gradient.iter_mut().zip(input) {
                        if x < 0.0 {
                            sums[channel] += f64::from(*d) * f64::from(x);
                            *d *= alpha[channel];
                        }
                    }
                });
                sums
            })
            .collect();
        for (channel, sum) in parameter_gradient.iter_mut().enumerate() {
            *sum = sums.iter().map(|sums| sums[channel]).sum::<f64>() as f32;
        }
    }
}

impl Prelu {
    /// Whole rounds of the channels.
    fn block(&self) -> usize {
        let channels = self.0.channels;
        BLOCK.next_multiple_of(channels.channels * channels.inner)
    }

    /// Calls `work` with each run of values of a channel, and with the position of its slope.
    fn runs(&self, to: &mut [f32], from: &[f32], mut work: impl FnMut(usize, &mut [f32], &[f32])) {
        let channels = self.0.channels;
        let runs = to
            .chunks_exact_mut(channels.inner)
            .zip(from.chunks_exact(channels.inner));
        for (run, (to, from)) in runs.enumerate() {
            let channel = if self.0.shared {
                0
            } else {
                run % channels.channels
            };
            work(channel, to, from);
        }
    }
}
