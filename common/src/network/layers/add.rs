//! `add`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::shared::merge;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Merge;

/// The sum of its inputs, value by value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {}

impl Layer for Add {
    const WORD: &'static str = "add";
    const ABOUT: &'static str =
        "several of one shape to one; `[channels]` or `[channels, 1, 1]` holds for whole planes";

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        merge(at, inputs, Merge::Add)
    }
}
