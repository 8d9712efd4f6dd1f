//! What operations compute. A kernel for each is in `trainyard-network`.

mod activation;
mod image;
mod scalar;
mod sequence;
mod volume;

use super::shape::Window;

pub use activation::{Function, Pointwise};
pub use image::{Axis, Broadcast, ConvTranspose, Frame, Method, Resample};
pub use scalar::{Channels, Noise, Prelu, Scalar};
pub use sequence::{Attention, Cell, Embedding, Gate, Norm, Permute, Positions, Recurrent};
pub use volume::{Conv3d, Pool3d, Slices};

/// An operation between buffers of one virtual shard.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Dense(Dense),
    Conv(Conv),
    ConvTranspose(ConvTranspose),
    Conv3d(Conv3d),
    Pool(Pool),
    Pool3d(Pool3d),
    Dropout(Dropout),
    BatchNorm(BatchNorm),
    Activation(Pointwise),
    Prelu(Prelu),
    Noise(Noise),
    Merge(Merge),
    Broadcast(Broadcast),
    Resample(Resample),
    Frame(Frame),
    /// Samples of several buffers one after the other.
    Concat {
        /// Parts of a sample that are put together each for itself.
        rows: usize,
    },
    Permute(Permute),
    Norm(Norm),
    Recurrent(Recurrent),
    Embedding(Embedding),
    Positions(Positions),
    Scores(Attention),
    Weighted(Attention),
}

/// y = x W + b, W `[inputs, units]`, b `[units]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dense {
    pub inputs: usize,
    pub units: usize,
    pub bias: bool,
    pub relu: bool,
}

/// Cross-correlation with a kernel `[filters, channels / groups, kh, kw]`, b `[filters]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    pub channels: usize,
    pub filters: usize,
    /// Parts of the channels, each of which has as many of the filters for itself.
    pub groups: usize,
    pub window: Window,
    pub bias: bool,
    pub relu: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    Max,
    Min,
    Average,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub kind: PoolKind,
    /// Whether means count the padding as zeros.
    pub count_padding: bool,
    pub window: Window,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// In [0, 1).
    pub rate: f64,
}

/// Ioffe and Szegedy 2015. Parameters gamma and beta `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    pub channels: usize,
    /// Pixels of a channel; 1 for `[features]`.
    pub area: usize,
    /// Share of the old running statistic that is kept at each step.
    pub momentum: f64,
    pub epsilon: f64,
    /// It normalizes by its running statistics in training too, and neither these nor its parameters change.
    pub frozen: bool,
}

/// Several buffers of one length, value by value, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    Add,
    Multiply,
    Average,
    Maximum,
}

/// What whoever plans a network's memory asks of an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its backward pass reads what it was given.
    pub reads_inputs: bool,
    /// Its backward pass reads what it put out, which must not be overwritten before.
    pub reads_output: bool,
    /// It can put out into the buffer of its only input.
    pub in_place: bool,
    /// Its backward pass turns the gradient of its output into that of its first input, in place.
    pub gradient_in_place: bool,
    /// It draws a mask.
    pub draws: bool,
    /// In inference it puts out what it was given.
    pub rests_in_inference: bool,
}

impl Op {
    /// As messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::Conv(_) | Self::Conv3d(_) => "convolution",
            Self::ConvTranspose(_) => "transposed convolution",
            Self::Pool(_) | Self::Pool3d(_) => "pooling",
            Self::Dropout(_) => "dropout",
            Self::BatchNorm(_) => "batch normalization",
            Self::Activation(_) | Self::Prelu(_) => "activation",
            Self::Noise(_) => "noise",
            Self::Merge(_) | Self::Broadcast(_) => "merge",
            Self::Resample(_) => "resampling",
            Self::Frame(_) => "padding and cropping",
            Self::Concat { .. } => "concat",
            Self::Permute(_) => "permute",
            Self::Norm(_) => "normalization",
            Self::Recurrent(_) => "recurrent",
            Self::Embedding(_) => "embedding",
            Self::Positions(_) => "positional encoding",
            Self::Scores(_) => "weights of attention",
            Self::Weighted(_) => "attention",
        }
    }

    pub fn traits(&self) -> Traits {
        let none = Traits::default();
        match self {
            Self::Dense(Dense { relu, .. }) | Self::Conv(Conv { relu, .. }) => Traits {
                reads_inputs: true,
                reads_output: *relu,
                ..none
            },
            Self::Pool(_)
            | Self::Pool3d(_)
            | Self::Concat { .. }
            | Self::Resample(_)
            | Self::Frame(_)
            | Self::Permute(_)
            | Self::Recurrent(_) => none,
            Self::Broadcast(broadcast) => Traits {
                reads_inputs: broadcast.merge == Merge::Multiply,
                ..none
            },
            Self::Prelu(_) => Traits {
                reads_inputs: true,
                gradient_in_place: true,
                ..none
            },
            Self::Dropout(_) | Self::Noise(_) => Traits {
                gradient_in_place: true,
                draws: true,
                rests_in_inference: true,
                ..none
            },
            Self::BatchNorm(norm) => Traits {
                reads_inputs: !norm.frozen,
                gradient_in_place: norm.frozen,
                ..none
            },
            Self::Norm(_)
            | Self::ConvTranspose(_)
            | Self::Conv3d(_)
            | Self::Embedding(_)
            | Self::Weighted(_) => Traits {
                reads_inputs: true,
                ..none
            },
            Self::Scores(_) => Traits {
                reads_inputs: true,
                reads_output: true,
                ..none
            },
            Self::Positions(_) => Traits {
                in_place: true,
                gradient_in_place: true,
                ..none
            },
            Self::Activation(pointwise) => {
                let from_output = pointwise.function.gradient_from_output();
                Traits {
                    reads_inputs: !from_output,
                    reads_output: from_output,
                    in_place: true,
                    gradient_in_place: true,
                    ..none
                }
            }
            Self::Merge(merge) => Traits {
                reads_inputs: matches!(merge, Merge::Multiply | Merge::Maximum),
                gradient_in_place: matches!(merge, Merge::Add),
                ..none
            },
        }
    }

    /// Values of a sample that it keeps from its forward to its backward pass, where they are many; it puts out `len`.
    pub fn keeps(&self, len: usize) -> usize {
        match self {
            Self::Recurrent(recurrent) => len / recurrent.put_out().max(1) * recurrent.kept(),
            _ => 0,
        }
    }

    /// (role, length, initial value) of each running statistic.
    pub fn statistics(&self) -> Vec<(&'static str, usize, f32)> {
        match self {
            Self::BatchNorm(norm) => vec![
                ("moving_mean", norm.channels, 0.0),
                ("moving_variance", norm.channels, 1.0),
            ],
            _ => Vec::new(),
        }
    }
}
