//! `cropping3d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_sides, frame};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Sides;

/// A volume without its borders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cropping3d {
    /// Values cut away on every side, `[depth, height, width]`, or `[before, after]` for each.
    cropping: Sides,
}

impl Layer for Cropping3d {
    const WORD: &'static str = "cropping3d";
    const ABOUT: &'static str = "`[channels, depth, height, width]` to the same, smaller";

    fn check(&self, path: &str, found: &mut Findings) {
        check_sides(&self.cropping, 3, format!("{path}.cropping"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        frame(at, only(inputs)?, &self.cropping, 3, true)
    }
}
