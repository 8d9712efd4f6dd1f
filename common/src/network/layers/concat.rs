//! `concat`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::shared::concat;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Its inputs one after the other, along the first dimension: channels or features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Concat {}

impl Layer for Concat {
    const WORD: &'static str = "concat";
    const ABOUT: &'static str = "several that differ in their first dimension to one";

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        concat(at, inputs)
    }
}
