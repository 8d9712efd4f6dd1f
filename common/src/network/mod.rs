//! PURE: what a network is, from the document's words to a graph of operations with fixed shapes.
//!
//! `layers` has a file for each layer: its fields, what they may be, and what it computes. A model is lowered to a
//! [`Graph`]: shapes, parameter counts, `model summary` and the trainer's program all follow from it, so that
//! they cannot disagree. Kernels are elsewhere (`trainyard-network`).

mod builder;
mod error;
mod findings;
mod graph;
pub mod layers;
pub mod losses;
mod model;
mod ops;
mod output;
pub(crate) mod range;
pub mod rules;
pub(crate) mod shape;
mod summary;
mod words;

pub use builder::{Builder, Lower, NewParameter};
pub use error::{LayerError, MAX_ELEMENTS, Problem};
pub use findings::Findings;
pub use graph::{Draw, Graph, Initial, Node, Parameter, Penalty, Row, Statistic, Tensor};
pub use layers::{Layer, LayerSpec};
pub use losses::{Loss, TargetKind};
pub use model::{Head, ModelSpec, WeightsSpec, check_shards};
pub use ops::{
    Attention, Axis, BatchNorm, Broadcast, Cell, Channels, Conv, Conv3d, ConvTranspose, Dense,
    Dropout, Embedding, Frame, Function, Gate, Merge, Method, Noise, Norm, Op, Permute, Pointwise,
    Pool, Pool3d, PoolKind, Positions, Prelu, Recurrent, Resample, Scalar, Slices, Traits,
};
pub use output::Trailing;
pub use rules::ParameterRule;
pub use shape::{Along, Placed, Window};
pub use summary::ModelSummary;
pub use words::{Activation, Border, Initializer, Padding, Pair};

#[cfg(test)]
mod tests;
