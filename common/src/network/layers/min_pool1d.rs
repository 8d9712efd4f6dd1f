//! `min_pool1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moving::{Movement, as_image, as_sequence, check_padding, in_one_row, pool};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Pair};

/// The smallest value of each window that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MinPool1d {
    #[serde(default = "two")]
    size: usize,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    /// `valid`, `same`, so many on both sides, or `[[before, after]]`; less than the size. It is never the smallest.
    #[serde(default)]
    padding: Padding,
    /// Whether a last window may reach over the end of the image.
    #[serde(default)]
    ceil: bool,
}

fn two() -> usize {
    2
}

impl Layer for MinPool1d {
    const WORD: &'static str = "min_pool1d";
    const ABOUT: &'static str = "`[channels, length]` to `[channels, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.size, format!("{path}.size"));
        if let Some(stride) = self.stride {
            found.at_least_one(stride, format!("{path}.stride"));
        }
        check_padding(&self.padding, 1, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: in_one_row(self.size),
            stride: in_one_row(self.stride.unwrap_or(self.size)),
            dilation: Pair::one(),
            padding: &self.padding,
            ceil: self.ceil,
            dimensions: 1,
        };
        let image = as_image(only(inputs)?)?;
        Ok(as_sequence(&pool(
            at,
            &image,
            PoolKind::Min,
            false,
            &movement,
        )?))
    }
}
