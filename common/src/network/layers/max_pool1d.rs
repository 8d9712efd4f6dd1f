//! `max_pool1d`.

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

/// The largest value of each window that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxPool1d {
    #[serde(default = "two")]
    size: usize,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    /// `valid`, `same`, so many on both sides, or `[[before, after]]`; less than the size. It is never the largest.
    #[serde(default)]
    padding: Padding,
    /// Whether a last window may reach over the end of the image.
    #[serde(default)]
    ceil: bool,
}

fn two() -> usize {
    2
}

impl Layer for MaxPool1d {
    const WORD: &'static str = "max_pool1d";
    const ABOUT: &'static str = "`[channels, length]` to `[channels, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        self.windows().check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let windows = self.windows();
        windows.pool(at, only(inputs)?, PoolKind::Max, false)
    }
}

impl MaxPool1d {
    fn windows(&self) -> Windows<'_, usize> {
        Windows {
            size: self.size,
            stride: self.stride,
            padding: &self.padding,
            ceil: self.ceil,
        }
    }
}
