//! Functions applied to each value, and softmax over the last dimension.

use rayon::prelude::*;
use trainyard_common::spec::model::Activation;

use super::simd::vectorized;

/// Values handled by one task, at least; a multiple of the width for softmax.
const BLOCK: usize = 1 << 14;
/// Keras' slope of leaky ReLU below 0.
const LEAKY_SLOPE: f64 = 0.3;

/// A function with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Function {
    Relu,
    /// Slope below 0.
    LeakyRelu(f32),
    /// Scale below 0.
    Elu(f32),
    Sigmoid,
    Tanh,
    Softmax,
    Swish,
    Gelu,
}

impl Function {
    /// `None` for linear.
    pub(crate) fn new(function: Activation, alpha: Option<f64>) -> Result<Option<Self>, String> {
        let takes_alpha = matches!(function, Activation::LeakyRelu | Activation::Elu);
        if let Some(alpha) = alpha {
            if !takes_alpha {
                return Err("alpha is given; accepted only with leaky_relu and elu".to_owned());
            }
            if !(alpha.is_finite() && alpha >= 0.0) {
                return Err(format!("alpha {alpha}; accepted: 0 or more"));
            }
        }
        Ok(match function {
            Activation::Linear => None,
            Activation::Relu => Some(Self::Relu),
            Activation::LeakyRelu => Some(Self::LeakyRelu(alpha.unwrap_or(LEAKY_SLOPE) as f32)),
            Activation::Elu => Some(Self::Elu(alpha.unwrap_or(1.0) as f32)),
            Activation::Sigmoid => Some(Self::Sigmoid),
            Activation::Tanh => Some(Self::Tanh),
            Activation::Softmax => Some(Self::Softmax),
            Activation::Swish => Some(Self::Swish),
            Activation::Gelu => Some(Self::Gelu),
        })
    }

    /// Whether the derivative can be had from the output alone.
    ///
    /// With a slope of 0 the sign of a leaky ReLU's output no longer tells that of its input, but
    /// its gradient below 0 is then 0 as well.
    pub(crate) fn gradient_from_output(self) -> bool {
        !matches!(self, Self::Swish | Self::Gelu)
    }
}

/// A function over a buffer whose last dimension is `width`.
#[derive(Debug)]
pub(crate) struct Pointwise {
    pub(crate) function: Function,
    pub(crate) width: usize,
}

impl Pointwise {
    fn block(&self) -> usize {
        BLOCK.next_multiple_of(self.width)
    }

    pub(crate) fn forward(&self, values: &mut [f32]) {
        values
            .par_chunks_mut(self.block())
            .for_each(|values| self.forward_block(values));
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
            Function::Gelu => values.iter_mut().for_each(|v| *v *= normal_cdf(*v)),
        }
    }

    /// Turns the gradient of the output, in `gradient`, into that of the input. `known` is the
    /// output where `gradient_from_output` says so, otherwise the input.
    pub(crate) fn backward(&self, gradient: &mut [f32], known: &[f32]) {
        let block = self.block();
        gradient
            .par_chunks_mut(block)
            .zip(known.par_chunks(block))
            .for_each(|(gradient, known)| self.backward_block(gradient, known));
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
            Function::Gelu => scale_by(gradient, known, |x| normal_cdf(x) + x * normal_density(x)),
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

/// 1 / (1 + e^-x), without overflow at any x.
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = libm::expf(-x.abs());
    let small = e / (1.0 + e);
    if x < 0.0 { small } else { 1.0 / (1.0 + e) }
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

    #[test]
    fn alpha_belongs_to_two_functions() {
        assert!(Function::new(Activation::Relu, Some(0.1)).is_err());
        assert!(Function::new(Activation::Elu, Some(-1.0)).is_err());
        assert_eq!(
            Function::new(Activation::LeakyRelu, None),
            Ok(Some(Function::LeakyRelu(0.3)))
        );
        assert_eq!(Function::new(Activation::Linear, None), Ok(None));
    }
}
