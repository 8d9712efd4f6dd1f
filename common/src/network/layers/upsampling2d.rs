//! `upsampling2d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{each, scaled, sizes};
use super::moving::resample;
use super::shared::{check_pair, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::words::{Interpolation, Pair};

/// An image so many times as large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsampling2d {
    #[serde(default = "Pair::two")]
    size: Pair,
    #[serde(default = "nearest")]
    interpolation: Interpolation,
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl Layer for Upsampling2d {
    const WORD: &'static str = "upsampling2d";
    const ABOUT: &'static str = "`[channels, height, width]` to the same, `size` times as large";

    fn check(&self, path: &str, found: &mut Findings) {
        check_pair(self.size, format!("{path}.size"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let size = scaled(sizes(input, 2)?, &each(self.size));
        resample(at, input, &size, self.interpolation.method())
    }
}
