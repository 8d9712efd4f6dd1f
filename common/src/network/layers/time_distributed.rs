//! `time_distributed`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer, LayerSpec, check_all};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// The same layers, with the same parameters, for each step of a sequence: of images, for example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeDistributed {
    /// They see one step, and no layers outside.
    layers: Vec<LayerSpec>,
}

impl Layer for TimeDistributed {
    const WORD: &'static str = "time_distributed";
    const ABOUT: &'static str =
        "`[steps, ...]` to `[steps, ...]`, what the last of `layers` puts out for a step";
    const LISTS: &'static [&'static str] = &["layers"];

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.layers.len(), format!("{path}.layers"));
        check_all(&self.layers, &format!("{path}.layers"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        if self.layers.is_empty() {
            return Err(Problem::other(
                "`layers` is empty; accepted are one or more",
            ));
        }
        if input.shape.len() < 2 {
            return Err(Problem::Other(format!(
                "needs steps [steps, ...], but its input is {:?}; a reshape layer before it makes some",
                input.shape
            )));
        }
        at.for_each_step(&self.layers, input)
    }
}
