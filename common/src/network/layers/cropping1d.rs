//! `cropping1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_sides, frame};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Sides;

/// A sequence without its borders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cropping1d {
    /// Values cut away on every side, `[[before, after]]`.
    cropping: Sides,
}

impl Layer for Cropping1d {
    const WORD: &'static str = "cropping1d";
    const ABOUT: &'static str = "`[channels, length]` to the same, smaller";

    fn check(&self, path: &str, found: &mut Findings) {
        check_sides(&self.cropping, 1, format!("{path}.cropping"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        frame(at, only(inputs)?, &self.cropping, 1, true)
    }
}
