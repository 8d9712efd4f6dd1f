//! `cropping2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_sides, frame};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Sides;

/// An image without its borders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cropping2d {
    /// Values cut away on every side, `[height, width]`, or `[[top, bottom], [left, right]]`.
    cropping: Sides,
}

impl Layer for Cropping2d {
    const WORD: &'static str = "cropping2d";
    const ABOUT: &'static str = "`[channels, height, width]` to the same, smaller";

    fn check(&self, path: &str, found: &mut Findings) {
        check_sides(&self.cropping, 2, format!("{path}.cropping"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        frame(at, only(inputs)?, &self.cropping, 2, true)
    }
}
