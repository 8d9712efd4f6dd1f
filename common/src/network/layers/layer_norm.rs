//! `layer_norm`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{normalize, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Normalizes the features of each sample, of a sequence those of each step; Ba et al. 2016.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerNorm {
    #[serde(default = "super::shared::norm_epsilon")]
    epsilon: f64,
}

impl Layer for LayerNorm {
    const WORD: &'static str = "layer_norm";
    const ABOUT: &'static str = "`[features]` or `[steps, features]` to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.positive(self.epsilon, format!("{path}.epsilon"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        match input.shape[..] {
            [features] | [_, features] => {
                normalize(at, input, (features, 1), features, self.epsilon)
            }
            _ => Err(Problem::Other(format!(
                "needs [features] or [steps, features], but its input is {:?}; `group_norm: {{groups: 1}}` normalizes \
                 all channels of an image together",
                input.shape
            ))),
        }
    }
}
