//! `branches`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{concat, merge, only};
use super::{Findings, Layer, LayerSpec, check_all};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::Merge;

/// Several lists of layers over one input, their outputs merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Branches {
    /// An empty one gives what comes in.
    paths: Vec<Vec<LayerSpec>>,
    #[serde(default)]
    merge: How,
}

/// How the outputs of branches become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum How {
    #[default]
    Concat,
    Add,
    Multiply,
    Mean,
    Maximum,
}

impl Layer for Branches {
    const WORD: &'static str = "branches";
    const ABOUT: &'static str = "any to the merged outputs of `paths`";
    const LISTS: &'static [&'static str] = &["paths"];

    fn check(&self, path: &str, found: &mut Findings) {
        let given = self.paths.len();
        found.expect(
            given >= 2,
            format!("{path}.paths"),
            format!("{given} lists"),
            "two or more lists of layers",
        );
        for (index, layers) in self.paths.iter().enumerate() {
            check_all(layers, &format!("{path}.paths[{index}]"), found);
        }
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let mut outputs = Vec::with_capacity(self.paths.len());
        for (index, layers) in self.paths.iter().enumerate() {
            let field = format!("paths[{index}]");
            outputs.push(at.block(&index.to_string(), &field, layers, input.clone())?);
        }
        let how = match self.merge {
            How::Concat => return concat(at, &outputs, 0),
            How::Add => Merge::Add,
            How::Multiply => Merge::Multiply,
            How::Mean => Merge::Average,
            How::Maximum => Merge::Maximum,
        };
        merge(at, &outputs, how)
    }
}
