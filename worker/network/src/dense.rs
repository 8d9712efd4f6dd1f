//! y = x W + b, with ReLU in the same pass where the layer asks for it.

use rayon::prelude::*;

use super::activation::{mask_positive, relu};
use super::gemm::{View, parallel_gemm};
use super::simd::vectorized;

/// Values handled by one task of the bias pass, at least.
const BLOCK: usize = 1 << 14;

#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) inputs: usize,
    pub(crate) units: usize,
    /// Index of the parameter [inputs, units]; the bias [units], if any, is the next one.
    pub(crate) kernel: usize,
    pub(crate) bias: bool,
    pub(crate) relu: bool,
}

impl Dense {
    /// input [n, inputs] -> output [n, units].
    pub(crate) fn forward(&self, parameters: &[&[f32]], input: &[f32], output: &mut [f32]) {
        let n = output.len() / self.units;
        parallel_gemm(
            output,
            View::new(input, n, self.inputs),
            View::new(parameters[self.kernel], self.inputs, self.units),
        );
        if !self.bias && !self.relu {
            return;
        }
        let bias = self.bias.then(|| parameters[self.kernel + 1]);
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
    pub(crate) fn backward(
        &self,
        parameters: &[&[f32]],
        input: &[f32],
        output: &[f32],
        gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
        parameter_gradient: &mut [f32],
    ) {
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
        if let Some(input_gradient) = input_gradient {
            let kernel = View::new(parameters[self.kernel], self.inputs, self.units);
            parallel_gemm(input_gradient, gradient, kernel.transposed());
        }
    }
}

#[inline(always)]
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
