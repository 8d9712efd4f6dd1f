//! `avg_pool3d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::windows::Windows;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Triple};

/// The mean of each window that moves over a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AvgPool3d {
    #[serde(default = "Triple::two")]
    size: Triple,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<Triple>,
    /// `valid`, `same`, so many on every side, `[depth, height, width]`, or `[before, after]` for each; less than the size.
    #[serde(default)]
    padding: Padding,
    /// Whether the mean counts padding as zeros.
    #[serde(default)]
    count_padding: bool,
    /// Whether a last window may reach over the end of the volume.
    #[serde(default)]
    ceil: bool,
}

impl Layer for AvgPool3d {
    const WORD: &'static str = "avg_pool3d";
    const ABOUT: &'static str =
        "`[channels, depth, height, width]` to `[channels, depth', height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        self.windows().check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let windows = self.windows();
        windows.pool(at, only(inputs)?, PoolKind::Average, self.count_padding)
    }
}

impl AvgPool3d {
    fn windows(&self) -> Windows<'_, Triple> {
        Windows {
            size: self.size,
            stride: self.stride,
            padding: &self.padding,
            ceil: self.ceil,
        }
    }
}
