//! `upsampling1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{scaled, sizes};
use super::moving::resample;
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Method;

/// A sequence so many times as large, each value repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsampling1d {
    #[serde(default = "two")]
    size: usize,
}

fn two() -> usize {
    2
}

impl Layer for Upsampling1d {
    const WORD: &'static str = "upsampling1d";
    const ABOUT: &'static str = "`[channels, length]` to the same, `size` times as large";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.size, format!("{path}.size"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let size = scaled(sizes(input, 1)?, &[self.size]);
        resample(at, input, &size, Method::Nearest)
    }
}
