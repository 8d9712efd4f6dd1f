//! `avg_pool1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::windows::Windows;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::Padding;

/// The mean of each window that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AvgPool1d {
    #[serde(default = "two")]
    size: usize,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    /// `valid`, `same`, so many on both sides, or `[[before, after]]`; less than the size.
    #[serde(default)]
    padding: Padding,
    /// Whether the mean counts padding as zeros.
    #[serde(default)]
    count_padding: bool,
    /// Whether a last window may reach over the end of the image.
    #[serde(default)]
    ceil: bool,
}

fn two() -> usize {
    2
}

impl Layer for AvgPool1d {
    const WORD: &'static str = "avg_pool1d";
    const ABOUT: &'static str = "`[channels, length]` to `[channels, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        self.windows().check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let windows = self.windows();
        windows.pool(at, only(inputs)?, PoolKind::Average, self.count_padding)
    }
}

impl AvgPool1d {
    fn windows(&self) -> Windows<'_, usize> {
        Windows {
            size: self.size,
            stride: self.stride,
            padding: &self.padding,
            ceil: self.ceil,
        }
    }
}
