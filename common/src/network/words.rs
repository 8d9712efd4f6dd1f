//! Words and pairs of numbers that several layers take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    #[default]
    Linear,
    Relu,
    LeakyRelu,
    Elu,
    Sigmoid,
    Tanh,
    /// Over the last dimension.
    Softmax,
    /// x * sigmoid(x), also called SiLU.
    Swish,
    /// x * Phi(x), the exact form by the error function.
    Gelu,
}

/// How kernels begin. Biases begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// U(-l, l), l = sqrt(6 / (fan_in + fan_out)); Glorot and Bengio 2010.
    #[default]
    GlorotUniform,
    /// N(0, 2 / (fan_in + fan_out)).
    GlorotNormal,
    /// U(-l, l), l = sqrt(6 / fan_in); He et al. 2015.
    HeUniform,
    /// N(0, 2 / fan_in).
    HeNormal,
    Zeros,
}

/// How borders are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// No padding: floor((n - k) / s) + 1 positions.
    #[default]
    Valid,
    /// ceil(n / s) positions; zeros (for max pooling: nothing) around, the odd one at the end.
    Same,
}

/// A number for both dimensions, or `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a whole number or [height, width]")]
pub enum Pair {
    Both(usize),
    Each([usize; 2]),
}

impl Pair {
    pub(crate) fn one() -> Self {
        Self::Both(1)
    }

    pub(crate) fn two() -> Self {
        Self::Both(2)
    }

    /// `(height, width)`.
    pub fn get(self) -> (usize, usize) {
        match self {
            Self::Both(n) => (n, n),
            Self::Each([height, width]) => (height, width),
        }
    }
}
