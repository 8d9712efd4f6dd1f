//! The network as a list of layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub layers: Vec<LayerSpec>,
}

/// One layer. Images are `[channels, height, width]`, everything else is `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSpec {
    /// y = activation(x W + b). Input `[features]`, output `[units]`.
    Dense(DenseSpec),
    /// Cross-correlation. Input `[channels, height, width]`, output `[filters, height', width']`.
    Conv2d(Conv2dSpec),
    MaxPool2d(PoolSpec),
    AvgPool2d(PoolSpec),
    /// `[channels, height, width]` to `[channels * height * width]`.
    Flatten(EmptySpec),
    /// In training, sets a share of the values to 0 and scales the rest by 1 / (1 - rate).
    Dropout(DropoutSpec),
    /// Normalizes each feature (`[features]`) or channel (images) over the batch.
    BatchNorm(BatchNormSpec),
    Activation(ActivationLayerSpec),
}

impl LayerSpec {
    /// The layer's word in a spec.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::Conv2d(_) => "conv2d",
            Self::MaxPool2d(_) => "max_pool2d",
            Self::AvgPool2d(_) => "avg_pool2d",
            Self::Flatten(_) => "flatten",
            Self::Dropout(_) => "dropout",
            Self::BatchNorm(_) => "batch_norm",
            Self::Activation(_) => "activation",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptySpec {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenseSpec {
    pub units: usize,
    #[serde(default)]
    pub activation: Activation,
    #[serde(default = "yes")]
    pub use_bias: bool,
    #[serde(default)]
    pub kernel_initializer: Initializer,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv2dSpec {
    pub filters: usize,
    /// One number, or `[height, width]`.
    pub kernel: Pair,
    #[serde(default = "Pair::one")]
    pub stride: Pair,
    #[serde(default)]
    pub padding: Padding,
    #[serde(default)]
    pub activation: Activation,
    #[serde(default = "yes")]
    pub use_bias: bool,
    #[serde(default)]
    pub kernel_initializer: Initializer,
}

fn yes() -> bool {
    true
}

/// A window that moves over an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    #[serde(default = "Pair::two")]
    pub size: Pair,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    #[serde(default)]
    pub padding: Padding,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropoutSpec {
    /// In [0, 1).
    pub rate: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNormSpec {
    /// Share of the old running statistic that is kept at each step (as Keras has it), in [0, 1).
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
}

fn default_momentum() -> f64 {
    0.99
}

fn default_epsilon() -> f64 {
    1e-3
}

impl Default for BatchNormSpec {
    fn default() -> Self {
        Self {
            momentum: default_momentum(),
            epsilon: default_epsilon(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationLayerSpec {
    pub function: Activation,
    /// Slope below 0 of `leaky_relu` (default 0.3, as Keras) and scale of `elu` (default 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

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
    fn one() -> Self {
        Self::Both(1)
    }

    fn two() -> Self {
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
