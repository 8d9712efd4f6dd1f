//! Functions applied to each value, and softmax over the last dimension.

use super::scalar::Scalar;
use crate::network::words::Activation;

/// Keras' slope of leaky ReLU below 0.
const LEAKY_SLOPE: f64 = 0.3;

/// A function with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    Relu,
    /// Slope below 0.
    LeakyRelu(f32),
    /// Scale below 0.
    Elu(f32),
    Sigmoid,
    Tanh,
    Softmax,
    Swish,
    Relu6,
    HardSwish,
    Gelu,
    /// x - log(sum(e^x)), over the last dimension.
    LogSoftmax,
    /// One of those whose derivative is had from what came in.
    Scalar(Scalar),
}

impl Function {
    /// `None` for linear.
    ///
    /// # Errors
    /// An `alpha` that is none, or where none is taken.
    pub fn new(function: Activation, alpha: Option<f64>) -> Result<Option<Self>, String> {
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
            Activation::Swish | Activation::Silu => Some(Self::Swish),
            Activation::Relu6 => Some(Self::Relu6),
            Activation::HardSwish => Some(Self::HardSwish),
            Activation::Gelu => Some(Self::Gelu),
            Activation::LogSoftmax => Some(Self::LogSoftmax),
            Activation::Softplus => Some(Self::Scalar(Scalar::Softplus)),
            Activation::Softsign => Some(Self::Scalar(Scalar::Softsign)),
            Activation::Selu => Some(Self::Scalar(Scalar::Selu)),
            Activation::Mish => Some(Self::Scalar(Scalar::Mish)),
            Activation::Exponential => Some(Self::Scalar(Scalar::Exponential)),
            Activation::HardSigmoid => Some(Self::Scalar(Scalar::HardSigmoid)),
            Activation::Step => Some(Self::Scalar(Scalar::Step)),
        })
    }

    /// Whether the derivative can be had from the output alone.
    ///
    /// With a slope of 0 the sign of a leaky ReLU's output no longer tells that of its input, but
    /// its gradient below 0 is then 0 as well.
    pub fn gradient_from_output(self) -> bool {
        !matches!(
            self,
            Self::Swish | Self::HardSwish | Self::Gelu | Self::Scalar(_)
        )
    }
}

/// A function over a buffer whose last dimension is `width`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pointwise {
    pub function: Function,
    pub width: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

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
