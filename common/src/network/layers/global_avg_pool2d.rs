//! `global_avg_pool2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::moving::global_pool;
use super::shared::only;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;

/// The mean of each channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalAvgPool2d {
    /// Whether it puts out `[channels, 1, 1]`.
    #[serde(default)]
    keep_dims: bool,
}

impl Layer for GlobalAvgPool2d {
    const WORD: &'static str = "global_avg_pool2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[channels]`";

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        global_pool(at, only(inputs)?, PoolKind::Average, 2, self.keep_dims)
    }
}
