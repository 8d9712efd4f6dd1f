//! y = x W + b, with ReLU in the same pass where the layer asks for it.

use rayon::prelude::*;

use trainyard_common::network;

use super::activation::{mask_positive, relu};
use super::{At, Kept, Kernel, Known};
use crate::gemm::{View, parallel_gemm};
use crate::simd::vectorized;

/// Values handled by one task of the bias pass, at least.
const BLOCK: usize = 1 << 14;

/// Parameters: the kernel [inputs, units], then the bias [units], if any.
#[derive(Debug)]
pub(super) struct Dense(pub(super) network::Dense);

impl std::ops::Deref for Dense {
    type Target = network::Dense;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for Dense {
    /// input [n, inputs] -> output [n, units].
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let input = inputs[0];
        let n = output.len() / self.units;
        parallel_gemm(
            output,
            View::new(input, n, self.inputs),
            View::new(at.parameters[0], self.inputs, self.units),
        );
        if !self.bias && !self.relu {
            return;
        }
        let bias = self.bias.then(|| at.parameters[1]);
        output
            .par_chunks_mut(BLOCK.next_multiple_of(self.units))
            .for_each(|rows| {
                vectorized(
                    #[inline(always)]
                    || {
                        if let Some(bias) = bias {
                            rows.chunks_exact_mut(bias.len())
                                .for_each(|row| add(row, bias));
                        }
                        if self.relu {
                            relu(rows);
                        }
                    },
                );
            });
    }

    /// `gradient` is that of the output; masked in place for ReLU. `parameter_gradient` is the flat
    /// part of kernel and bias.
    fn backward(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        _: &mut Kept,
    ) {
        let (input, output) = (known.inputs[0], known.output);
        let n = gradient.len() / self.units;
        let (kernel_gradient, bias_gradient) =
            parameter_gradient.split_at_mut(self.inputs * self.units);
        bias_gradient.fill(0.0);
        vectorized(
            #[inline(always)]
            || {
                if self.relu {
                    mask_positive(gradient, output);
                }
                if self.bias {
                    gradient
                        .chunks_exact(self.units)
                        .for_each(|row| add(bias_gradient, row));
                }
            },
        );
        let gradient = View::new(gradient, n, self.units);
        parallel_gemm(
            kernel_gradient,
            View::new(input, n, self.inputs).transposed(),
            gradient,
        );
        if let Some(input_gradient) = targets[0].as_deref_mut() {
            let kernel = View::new(at.parameters[0], self.inputs, self.units);
            parallel_gemm(input_gradient, gradient, kernel.transposed());
        }
    }
}

#[inline(always)]
pub(super) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
