//! Operations on images, sequences and volumes beside convolution and pooling.

use super::{Conv, Merge};

/// Inputs `[channels, ...]` and inputs `[channels]`, whose values hold for whole planes, value by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// `Add` or `Multiply`.
    pub merge: Merge,
    /// Values of a plane.
    pub area: usize,
    /// Per input: whether it has one value a plane.
    pub spread: Vec<bool>,
}

/// How values along a dimension of another length are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The value at floor(position n / out).
    Nearest,
    /// Between the two nearest, pixels being areas with a middle (PyTorch's `align_corners=False`).
    Linear,
    /// The mean from floor(position n / out) to ceil((position + 1) n / out).
    Mean,
}

/// A dimension of `n` values that becomes one of `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    pub n: usize,
    pub out: usize,
    pub method: Method,
}

/// Planes or volumes of another size, one dimension after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resample {
    /// Without the channels.
    pub axes: Vec<Axis>,
}

/// The adjoint of a convolution, with a bias `[conv.channels]` if any. Its kernel is that of the convolution, which goes
/// from what this puts out to what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Without bias and ReLU.
    pub conv: Conv,
    pub bias: bool,
}

/// Volumes with zeros around, or without their borders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Depth, height, width.
    pub input: [usize; 3],
    pub output: [usize; 3],
    /// Where the input begins in the output; below 0: how much of it is cut away.
    pub offset: [isize; 3],
}
