//! `residual`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{activate, merge, only};
use super::{Findings, Layer, LayerSpec, check_all};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Merge;
use crate::network::words::Activation;

/// activation(body(x) + shortcut(x)); He et al. 2016.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Residual {
    body: Vec<LayerSpec>,
    /// Unset or empty: what comes in, as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shortcut: Vec<LayerSpec>,
    #[serde(default)]
    activation: Activation,
}

impl Layer for Residual {
    const WORD: &'static str = "residual";
    const ABOUT: &'static str = "any to what `body` and `shortcut` both put out";
    const LISTS: &'static [&'static str] = &["body", "shortcut"];

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.body.len(), format!("{path}.body"));
        check_all(&self.body, &format!("{path}.body"), found);
        check_all(&self.shortcut, &format!("{path}.shortcut"), found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let body = at.block("", "body", &self.body, input.clone())?;
        let shortcut = at.block("shortcut", "shortcut", &self.shortcut, input.clone())?;
        if body.shape != shortcut.shape {
            return Err(Problem::Other(format!(
                "`body` puts out {:?} and `shortcut` {:?}; accepted are outputs of one shape: a `shortcut` of a \
                 convolution with the same stride and filters brings that about",
                body.shape, shortcut.shape
            )));
        }
        let sum = merge(at, &[body, shortcut], Merge::Add)?;
        activate(at, sum, self.activation, None)
    }
}
