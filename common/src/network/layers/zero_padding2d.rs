//! `zero_padding2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_sides, frame};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Sides;

/// Zeros around an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZeroPadding2d {
    /// Zeros on every side, `[height, width]`, or `[[top, bottom], [left, right]]`.
    padding: Sides,
}

impl Layer for ZeroPadding2d {
    const WORD: &'static str = "zero_padding2d";
    const ABOUT: &'static str = "`[channels, height, width]` to the same, larger";

    fn check(&self, path: &str, found: &mut Findings) {
        check_sides(&self.padding, 2, format!("{path}.padding"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        frame(at, only(inputs)?, &self.padding, 2, false)
    }
}
