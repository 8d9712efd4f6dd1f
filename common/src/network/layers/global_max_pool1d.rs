//! `global_max_pool1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::moving::global_pool;
use super::shared::only;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;

/// The largest value of each channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalMaxPool1d {
    /// Whether it puts out `[channels, 1]`.
    #[serde(default)]
    keep_dims: bool,
}

impl Layer for GlobalMaxPool1d {
    const WORD: &'static str = "global_max_pool1d";
    const ABOUT: &'static str = "`[channels, length]` to `[channels]`";

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        global_pool(at, only(inputs)?, PoolKind::Max, 1, self.keep_dims)
    }
}
