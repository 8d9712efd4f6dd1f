//! Words and pairs of numbers that several layers take.

use std::fmt;

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
    /// The same as `swish`.
    Silu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x * relu6(x + 3) / 6.
    HardSwish,
    /// x * Phi(x), the exact form by the error function.
    Gelu,
    /// log(1 + e^x).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// 1.0507 x above 0, 1.0507 * 1.6733 (e^x - 1) below; Klambauer et al. 2017.
    Selu,
    /// x tanh(log(1 + e^x)); Misra 2019.
    Mish,
    /// e^x.
    Exponential,
    /// x / 6 + 1 / 2, between 0 and 1.
    HardSigmoid,
    /// 1 from 0 on, 0 below. Its gradient is 0: nothing before it learns.
    Step,
    /// The logarithm of softmax, over the last dimension.
    LogSoftmax,
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
    /// U(-0.05, 0.05), as Keras's `uniform`.
    Uniform,
    /// A matrix of the first dimension and all others, whose shorter side is orthonormal; Saxe et al. 2014.
    Orthogonal,
}

/// How borders are treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`valid`, `same`, a whole number, one for each dimension, or [before, after] for each dimension"
)]
pub enum Padding {
    Word(PaddingWord),
    Told(Sides),
}

/// So many before and after each dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a whole number, one for each dimension, or [before, after] for each dimension"
)]
pub enum Sides {
    /// So many on every side.
    Every(usize),
    /// So many before and after, for each dimension: `[height, width]`.
    Each(Vec<usize>),
    /// `[[top, bottom], [left, right]]`.
    Pairs(Vec<[usize; 2]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaddingWord {
    /// No padding: floor((n - k) / s) + 1 positions.
    #[default]
    Valid,
    /// ceil(n / s) positions; zeros (for max pooling: nothing) around, the odd one at the end.
    Same,
}

/// How the borders of one dimension are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    Valid,
    Same,
    /// So many before and after.
    Around(usize, usize),
}

impl Default for Padding {
    fn default() -> Self {
        Self::Word(PaddingWord::default())
    }
}

impl Padding {
    /// Of the dimension `at` of `dimensions`; `None` where a list is of another length.
    pub(crate) fn border(&self, dimensions: usize, at: usize) -> Option<Border> {
        match self {
            Self::Word(PaddingWord::Valid) => Some(Border::Valid),
            Self::Word(PaddingWord::Same) => Some(Border::Same),
            Self::Told(sides) => {
                let (before, after) = sides.around(dimensions, at)?;
                Some(Border::Around(before, after))
            }
        }
    }
}

impl Sides {
    /// Before and after the dimension `at` of `dimensions`; `None` where a list is of another length.
    pub(crate) fn around(&self, dimensions: usize, at: usize) -> Option<(usize, usize)> {
        match self {
            Self::Every(n) => Some((*n, *n)),
            Self::Each(list) if list.len() == dimensions => Some((list[at], list[at])),
            Self::Pairs(list) if list.len() == dimensions => Some((list[at][0], list[at][1])),
            Self::Each(_) | Self::Pairs(_) => None,
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(PaddingWord::Valid) => write!(f, "valid"),
            Self::Word(PaddingWord::Same) => write!(f, "same"),
            Self::Told(sides) => write!(f, "{sides}"),
        }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(n) => write!(f, "{n}"),
            Self::Each(list) => write!(f, "{list:?}"),
            Self::Pairs(list) => write!(f, "{list:?}"),
        }
    }
}

/// How an image of another size gets its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Interpolation {
    /// That of the pixel at floor(position n / out).
    Nearest,
    /// Between the nearest, pixels being areas with a middle (PyTorch's `align_corners=False`).
    Bilinear,
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

/// A number for all three dimensions, or `[depth, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a whole number or [depth, height, width]")]
pub(crate) enum Triple {
    All(usize),
    Each([usize; 3]),
}

impl Triple {
    pub(crate) fn one() -> Self {
        Self::All(1)
    }

    pub(crate) fn two() -> Self {
        Self::All(2)
    }

    /// `[depth, height, width]`.
    pub(crate) fn get(self) -> [usize; 3] {
        match self {
            Self::All(n) => [n; 3],
            Self::Each(sizes) => sizes,
        }
    }
}
