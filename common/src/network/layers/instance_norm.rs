//! `instance_norm`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{normalize, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Normalizes each channel of each sample over its pixels; Ulyanov et al. 2016.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceNorm {
    #[serde(default = "super::shared::norm_epsilon")]
    epsilon: f64,
}

impl Layer for InstanceNorm {
    const WORD: &'static str = "instance_norm";
    const ABOUT: &'static str = "`[channels, length]` or `[channels, height, width]` to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.positive(self.epsilon, format!("{path}.epsilon"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let (channels, area) = (input.shape[0], input.shape[1..].iter().product());
        if area == 1 {
            return Err(Problem::Other(format!(
                "its input {:?} has one value a channel, of which nothing but 0 would be left; accepted are channels \
                 of several values, such as [channels, height, width]",
                input.shape
            )));
        }
        normalize(at, input, (channels, area), area, self.epsilon)
    }
}
