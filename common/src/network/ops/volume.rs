//! Windows that move over volumes.

use super::{Conv, Pool};

/// Where a window stands along the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    pub n: usize,
    pub size: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Padding.
    pub before: usize,
    pub after: usize,
    pub out: usize,
}

/// Cross-correlation with a kernel `[filters, channels / groups, kd, kh, kw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv3d {
    /// All but the depth; without ReLU.
    pub conv: Conv,
    pub slices: Slices,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool3d {
    /// All but the depth.
    pub pool: Pool,
    pub slices: Slices,
}
