//! `min_pool2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moving::{Movement, check_padding, pool};
use super::shared::{check_pair, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Pair};

/// The smallest value of each window that moves over an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MinPool2d {
    #[serde(default = "Pair::two")]
    size: Pair,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<Pair>,
    /// `valid`, `same`, so many on every side, `[height, width]`, or `[[top, bottom], [left, right]]`; less than the size. It is never the smallest.
    #[serde(default)]
    padding: Padding,
    /// Whether a last window may reach over the end of the image.
    #[serde(default)]
    ceil: bool,
}

impl Layer for MinPool2d {
    const WORD: &'static str = "min_pool2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[channels, height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        check_pair(self.size, format!("{path}.size"), found);
        if let Some(stride) = self.stride {
            check_pair(stride, format!("{path}.stride"), found);
        }
        check_padding(&self.padding, 2, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: self.size,
            stride: self.stride.unwrap_or(self.size),
            dilation: Pair::one(),
            padding: &self.padding,
            ceil: self.ceil,
            dimensions: 2,
        };
        pool(at, only(inputs)?, PoolKind::Min, false, &movement)
    }
}
