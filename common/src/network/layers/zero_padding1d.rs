//! `zero_padding1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_sides, frame};
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::Sides;

/// Zeros around a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZeroPadding1d {
    /// Zeros on every side, `[[before, after]]`.
    padding: Sides,
}

impl Layer for ZeroPadding1d {
    const WORD: &'static str = "zero_padding1d";
    const ABOUT: &'static str = "`[channels, length]` to the same, larger";

    fn check(&self, path: &str, found: &mut Findings) {
        check_sides(&self.padding, 1, format!("{path}.padding"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        frame(at, only(inputs)?, &self.padding, 1, false)
    }
}
