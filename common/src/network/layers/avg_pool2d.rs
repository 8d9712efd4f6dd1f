//! `avg_pool2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{check_pair, only, pool};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Pair};

/// The mean of each window that moves over an image; padding is not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AvgPool2d {
    #[serde(default = "Pair::two")]
    size: Pair,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<Pair>,
    #[serde(default)]
    padding: Padding,
}

impl Layer for AvgPool2d {
    const WORD: &'static str = "avg_pool2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[channels, height', width']`";

    fn check(&self, path: &str, found: &mut Findings) {
        check_pair(self.size, format!("{path}.size"), found);
        if let Some(stride) = self.stride {
            check_pair(stride, format!("{path}.stride"), found);
        }
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let window = (self.size, self.stride, self.padding);
        pool(at, only(inputs)?, PoolKind::Average, window)
    }
}
