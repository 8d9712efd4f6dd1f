//! `repeat`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer, LayerSpec, check_all};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// The same layers several times one after the other, each time with parameters of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Repeat {
    times: u32,
    layers: Vec<LayerSpec>,
}

impl Layer for Repeat {
    const WORD: &'static str = "repeat";
    const ABOUT: &'static str = "any to what the last of `layers` puts out";
    const LISTS: &'static [&'static str] = &["layers"];

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.layers.len(), format!("{path}.layers"));
        check_all(&self.layers, &format!("{path}.layers"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let mut tensor = only(inputs)?.clone();
        if self.layers.is_empty() {
            return Err(Problem::other(
                "`layers` is empty; accepted are one or more",
            ));
        }
        for time in 0..self.times {
            tensor = at.block(&time.to_string(), "layers", &self.layers, tensor)?;
        }
        Ok(tensor)
    }
}
