//! `group_norm`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{normalize, only};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Normalizes groups of channels of each sample, each group with all its pixels; Wu and He 2018.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupNorm {
    /// So many groups of neighbouring channels; Keras's default.
    #[serde(default = "thirty_two")]
    groups: usize,
    #[serde(default = "super::shared::norm_epsilon")]
    epsilon: f64,
}

fn thirty_two() -> usize {
    32
}

impl Layer for GroupNorm {
    const WORD: &'static str = "group_norm";
    const ABOUT: &'static str = "`[channels, ...]` to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.groups, format!("{path}.groups"));
        found.positive(self.epsilon, format!("{path}.epsilon"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        if self.groups == 0 {
            return Err(Problem::Zero { field: "groups" });
        }
        let (channels, area) = (input.shape[0], input.shape[1..].iter().product());
        if !channels.is_multiple_of(self.groups) {
            return Err(Problem::Other(format!(
                "`groups` is {}, but its input {:?} has {channels} channels; accepted are numbers that divide them",
                self.groups, input.shape
            )));
        }
        normalize(
            at,
            input,
            (channels, area),
            channels / self.groups * area,
            self.epsilon,
        )
    }
}
