//! Functions applied to each value, and softmax over the last dimension.

use rayon::prelude::*;
use trainyard_common::network::{self, Function};

use super::scalar::{self, sigmoid};
use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Values handled by one task, at least; a multiple of the width for softmax.
const BLOCK: usize = 1 << 14;
/// A function over a buffer whose last dimension is `width`.
#[derive(Debug)]
pub(super) struct Pointwise(pub(super) network::Pointwise);

impl std::ops::Deref for Pointwise {
    type Target = network::Pointwise;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kernel for Pointwise {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        output.copy_from_slice(inputs[0]);
        self.forward_in_place(at, output);
    }

    fn forward_in_place(&self, _: &At<'_>, values: &mut [f32]) {
        values
            .par_chunks_mut(self.block())
            .for_each(|values| self.forward_block(values));
    }

    /// The gradient of the output, in `gradient`, becomes that of the input.
    fn backward(
        &self,
        _: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        _: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        let known = match self.function.gradient_from_output() {
            true => known.output,
            false => known.inputs[0],
        };
        let block = self.block();
        gradient
            .par_chunks_mut(block)
            .zip(known.par_chunks(block))
            .for_each(|(gradient, known)| self.backward_block(gradient, known));
    }
}

impl Pointwise {
    fn block(&self) -> usize {
        BLOCK.next_multiple_of(self.width)
    }

    fn forward_block(&self, values: &mut [f32]) {
        match self.function {
            Function::Relu => vectorized(
                #[inline(always)]
                || relu(values),
            ),
            Function::LeakyRelu(slope) => vectorized(
                #[inline(always)]
                || {
                    values
                        .iter_mut()
                        .for_each(|v| *v = if *v > 0.0 { *v } else { *v * slope })
                },
            ),
            Function::Elu(scale) => values.iter_mut().for_each(|v| {
                if *v <= 0.0 {
                    *v = scale * libm::expm1f(*v);
                }
            }),
            Function::Sigmoid => values.iter_mut().for_each(|v| *v = sigmoid(*v)),
            Function::Tanh => values.iter_mut().for_each(|v| *v = libm::tanhf(*v)),
            Function::Softmax => values.chunks_exact_mut(self.width).for_each(softmax),
            Function::Swish => values.iter_mut().for_each(|v| *v *= sigmoid(*v)),
            Function::Relu6 => vectorized(
                #[inline(always)]
                || relu6(values),
            ),
            Function::HardSwish => vectorized(
                #[inline(always)]
                || values.iter_mut().for_each(|v| *v = hard_swish(*v)),
            ),
            Function::Gelu => values.iter_mut().for_each(|v| *v *= normal_cdf(*v)),
            Function::LogSoftmax => values.chunks_exact_mut(self.width).for_each(log_softmax),
            Function::Scalar(function) => scalar::forward(function, values),
        }
    }

    fn backward_block(&self, gradient: &mut [f32], known: &[f32]) {
        match self.function {
            Function::Relu => vectorized(
                #[inline(always)]
                || mask_positive(gradient, known),
            ),
            Function::LeakyRelu(slope) => vectorized(
                #[inline(always)]
                || scale_by(gradient, known, |y| if y > 0.0 { 1.0 } else { slope }),
            ),
            Function::Elu(scale) => {
                scale_by(gradient, known, |y| if y > 0.0 { 1.0 } else { y + scale });
            }
            Function::Sigmoid => scale_by(gradient, known, |y| y * (1.0 - y)),
            Function::Tanh => scale_by(gradient, known, |y| 1.0 - y * y),
            Function::Softmax => softmax_backward(gradient, known, self.width),
            Function::Swish => scale_by(gradient, known, |x| {
                let s = sigmoid(x);
                s + x * s * (1.0 - s)
            }),
            Function::Relu6 => vectorized(
                #[inline(always)]
                || scale_by(gradient, known, |y| f32::from(u8::from(y > 0.0 && y < 6.0))),
            ),
            Function::HardSwish => vectorized(
                #[inline(always)]
                || scale_by(gradient, known, hard_swish_slope),
            ),
            Function::Gelu => scale_by(gradient, known, |x| normal_cdf(x) + x * normal_density(x)),
            Function::LogSoftmax => log_softmax_backward(gradient, known, self.width),
            Function::Scalar(function) => scalar::backward(function, gradient, known),
        }
    }
}

/// max(x, 0), keeping NaN, which must reach the loss.
#[inline(always)]
pub(crate) fn relu(values: &mut [f32]) {
    for value in values {
        *value = if *value < 0.0 { 0.0 } else { *value };
    }
}

/// min(max(x, 0), 6), keeping NaN.
#[inline(always)]
fn relu6(values: &mut [f32]) {
    relu(values);
    for value in values {
        *value = if *value > 6.0 { 6.0 } else { *value };
    }
}

/// x relu6(x + 3) / 6, keeping NaN. Howard et al. 2019.
#[inline(always)]
fn hard_swish(x: f32) -> f32 {
    if x <= -3.0 {
        0.0
    } else if x >= 3.0 {
        x
    } else {
        x * (x + 3.0) / 6.0
    }
}

#[inline(always)]
fn hard_swish_slope(x: f32) -> f32 {
    if x <= -3.0 {
        0.0
    } else if x >= 3.0 {
        1.0
    } else {
        x / 3.0 + 0.5
    }
}

/// Gradient of ReLU by its output; 0 at 0.
#[inline(always)]
pub(crate) fn mask_positive(gradient: &mut [f32], output: &[f32]) {
    for (gradient, &output) in gradient.iter_mut().zip(output) {
        *gradient = if output > 0.0 { *gradient } else { 0.0 };
    }
}

#[inline(always)]
fn scale_by(gradient: &mut [f32], known: &[f32], derivative: impl Fn(f32) -> f32) {
    for (gradient, &known) in gradient.iter_mut().zip(known) {
        *gradient *= derivative(known);
    }
}

/// Phi(x) = erfc(-x / sqrt 2) / 2.
fn normal_cdf(x: f32) -> f32 {
    0.5 * libm::erfcf(-x * std::f32::consts::FRAC_1_SQRT_2)
}

fn normal_density(x: f32) -> f32 {
    // 1 / sqrt(2 pi)
    const SCALE: f32 = 0.398_942_3;
    SCALE * libm::expf(-0.5 * x * x)
}

/// In place over one row, shifted by its maximum.
pub(crate) fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = libm::expf(*value - max);
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}

/// dx = y (dy - sum(dy y)).
fn softmax_backward(gradient: &mut [f32], output: &[f32], width: usize) {
    for (gradient, output) in gradient
        .chunks_exact_mut(width)
        .zip(output.chunks_exact(width))
    {
        let dot: f32 = gradient.iter().zip(output).map(|(g, y)| g * y).sum();
        for (gradient, output) in gradient.iter_mut().zip(output) {
            *gradient = output * (*gradient - dot);
        }
    }
}

/// In place over one row, shifted by its maximum.
fn log_softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|&value| libm::expf(value - max)).sum();
    let log = libm::logf(sum);
    row.iter_mut()
        .for_each(|value| *value = (*value - max) - log);
}

/// dx = dy - e^y sum(dy).
fn log_softmax_backward(gradient: &mut [f32], output: &[f32], width: usize) {
    for (gradient, output) in gradient
        .chunks_exact_mut(width)
        .zip(output.chunks_exact(width))
    {
        let sum: f32 = gradient.iter().sum();
        for (gradient, output) in gradient.iter_mut().zip(output) {
            *gradient -= libm::expf(*output) * sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_survives() {
        let mut values = [f32::NAN, -1.0, 2.0];
        relu(&mut values);
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [0.0, 2.0]);
        let mut row = [f32::NAN, 1.0];
        softmax(&mut row);
        assert!(row.iter().any(|v| v.is_nan()));
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert_eq!(sigmoid(0.0), 0.5);
        let mut row = [1000.0, -1000.0];
        softmax(&mut row);
        assert_eq!(row, [1.0, 0.0]);
    }
}
