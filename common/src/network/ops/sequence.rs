//! Operations over sequences, and what stands between their layers.

use crate::network::words::Activation;

/// The dimensions of a sample in another order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permute {
    /// Of the input.
    pub shape: Vec<usize>,
    /// Which dimension of the input becomes the first of the output, and so on; from 0.
    pub order: Vec<usize>,
}

/// Normalization within a sample: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance over `width`
/// values that lie side by side. Parameters gamma and beta `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    pub width: usize,
    /// Value j of a sample takes the parameters at (j / area) % channels.
    pub channels: usize,
    pub area: usize,
    pub epsilon: f64,
}

/// A function of a gate, whose derivative can be had from what it puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Linear,
    Relu,
    Sigmoid,
    Tanh,
}

impl Gate {
    /// What a document calls them.
    pub(crate) const WORDS: &'static str = "tanh, sigmoid, relu, linear";

    /// The function of this name, where a gate may have it.
    pub fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Linear => Some(Self::Linear),
            Activation::Relu => Some(Self::Relu),
            Activation::Sigmoid => Some(Self::Sigmoid),
            Activation::Tanh => Some(Self::Tanh),
            _ => None,
        }
    }
}

/// What computes a step of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Simple,
    /// Gates i, f, g, o.
    Lstm,
    /// Gates z, r, h.
    Gru {
        /// Whether the reset comes after the product with the recurrent kernel, which then has a bias of its own.
        reset_after: bool,
    },
}

impl Cell {
    pub fn gates(self) -> usize {
        match self {
            Self::Simple => 1,
            Self::Lstm => 4,
            Self::Gru { .. } => 3,
        }
    }
}

/// A whole sequence `[steps, features]`. Parameters as Keras has them: kernel `[features, gates * units]`, recurrent kernel
/// `[units, gates * units]`, and a bias of as many; of a GRU that resets after the product `[2, 3 * units]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    pub cell: Cell,
    pub steps: usize,
    pub features: usize,
    pub units: usize,
    pub activation: Gate,
    pub recurrent_activation: Gate,
    /// Puts out `[steps, units]`, otherwise the last step's `[units]`.
    pub sequences: bool,
    /// From the last step to the first; outputs in the order in which they are computed,
    pub backwards: bool,
    /// or where their steps stand.
    pub aligned: bool,
    /// A step all of whose features are this is left out: state and output stay as they were.
    pub mask_value: Option<f32>,
}

impl Recurrent {
    /// Width of a step's gates.
    pub fn gates(&self) -> usize {
        self.cell.gates().saturating_mul(self.units)
    }

    /// Values that a cell keeps of a step beside its input, gates and output.
    pub fn extra(&self) -> usize {
        match self.cell {
            Cell::Simple => 0,
            Cell::Lstm => 2 * self.units,
            Cell::Gru { reset_after: true } => 3 * self.units,
            Cell::Gru { reset_after: false } => self.units,
        }
    }

    /// Values of a sample that are kept from the forward to the backward pass.
    pub fn kept(&self) -> usize {
        let mask = usize::from(self.mask_value.is_some());
        let step = self.features + self.gates() + self.units + self.extra() + mask;
        self.steps.saturating_mul(step)
    }

    /// Values put out for a sample.
    pub fn put_out(&self) -> usize {
        match self.sequences {
            true => self.steps * self.units,
            false => self.units,
        }
    }
}

/// A row of a table `[vocabulary, dimensions]` for each value of the samples, which are whole numbers below `vocabulary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    pub vocabulary: usize,
    pub dimensions: usize,
    /// The row of 0 is zeros.
    pub mask_zero: bool,
}

/// Adds `[steps, features]`: sines and cosines, or its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    pub steps: usize,
    pub features: usize,
    pub learned: bool,
}

/// Of queries `[queries, heads, dimensions]` and keys `[keys, heads, dimensions]`: the weights `[heads, queries, keys]`, a
/// softmax over the keys of the scaled products. Of weights and values `[keys, heads, dimensions]`: what is put out,
/// `[queries, heads, dimensions]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    pub heads: usize,
    pub dimensions: usize,
    pub queries: usize,
    pub keys: usize,
    /// A query sees no later keys.
    pub causal: bool,
}
