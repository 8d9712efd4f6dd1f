//! `resize2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{each, sizes};
use super::moving::resample;
use super::shared::{check_pair, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Interpolation, Pair};

/// An image of another size, whatever it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resize2d {
    /// Of what it puts out: one number, or `[height, width]`.
    size: Pair,
    #[serde(default = "bilinear")]
    interpolation: Interpolation,
}

fn bilinear() -> Interpolation {
    Interpolation::Bilinear
}

impl Layer for Resize2d {
    const WORD: &'static str = "resize2d";
    const ABOUT: &'static str = "`[channels, height, width]` to `[channels, size]`";

    fn check(&self, path: &str, found: &mut Findings) {
        check_pair(self.size, format!("{path}.size"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        sizes(input, 2)?;
        resample(at, input, &each(self.size), self.interpolation.method())
    }
}
