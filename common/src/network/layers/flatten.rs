//! `flatten`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::shared::only;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// All values of a sample in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Flatten {}

impl Layer for Flatten {
    const WORD: &'static str = "flatten";
    const ABOUT: &'static str = "any to `[values]`";

    fn lower(&self, _: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        Ok(input.arranged(vec![input.len()]))
    }
}
