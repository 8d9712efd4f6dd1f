//! `max_pool1d`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{as_image, only, pool};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Pair};

/// The largest value of each window that moves along a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxPool1d {
    #[serde(default = "two")]
    size: usize,
    /// Unset: equal to `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(default)]
    padding: Padding,
}

fn two() -> usize {
    2
}

impl Layer for MaxPool1d {
    const WORD: &'static str = "max_pool1d";
    const ABOUT: &'static str = "`[channels, length]` to `[channels, length']`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.size, format!("{path}.size"));
        if let Some(stride) = self.stride {
            found.at_least_one(stride, format!("{path}.stride"));
        }
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let along = |size: usize| Pair::Each([1, size]);
        let window = (along(self.size), self.stride.map(along), self.padding);
        let pooled = pool(at, &as_image(only(inputs)?)?, PoolKind::Max, window)?;
        let [channels, _, length] = pooled.shape[..] else {
            unreachable!("a pooled image is an image");
        };
        Ok(pooled.arranged(vec![channels, length]))
    }
}
