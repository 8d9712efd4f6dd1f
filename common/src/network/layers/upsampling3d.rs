//! `upsampling3d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::framing::{check_triple, scaled, sizes};
use super::moving::resample;
use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Method;
use crate::network::words::Triple;

/// A volume so many times as large, each value repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upsampling3d {
    #[serde(default = "Triple::two")]
    size: Triple,
}

impl Layer for Upsampling3d {
    const WORD: &'static str = "upsampling3d";
    const ABOUT: &'static str =
        "`[channels, depth, height, width]` to the same, `size` times as large";

    fn check(&self, path: &str, found: &mut Findings) {
        check_triple(self.size, format!("{path}.size"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let size = scaled(sizes(input, 3)?, &self.size.get());
        resample(at, input, &size, Method::Nearest)
    }
}
