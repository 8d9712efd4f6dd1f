//! `concat`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::concat;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Its inputs one after the other, along the first dimension: channels or features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Concat {
    /// The dimension, from 1; of `[steps, features]` 2 puts the features of each step together.
    #[serde(default = "one")]
    axis: usize,
}

fn one() -> usize {
    1
}

impl Layer for Concat {
    const WORD: &'static str = "concat";
    const ABOUT: &'static str = "several that differ in dimension `axis` to one";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.axis, format!("{path}.axis"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let along = self.axis.checked_sub(1);
        concat(at, inputs, along.ok_or(Problem::Zero { field: "axis" })?)
    }
}
