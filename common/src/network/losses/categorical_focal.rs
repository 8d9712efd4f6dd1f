//! Focal loss of a class among several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, TargetKind, Trailing, output};

/// -(1 - p)^gamma log p, p = softmax(y)`[class]` (Lin et al. 2017). A softmax at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoricalFocalSpec {
    /// What is right already counts the less the larger it is; from 0.
    #[serde(default = "two")]
    pub gamma: f64,
}

fn two() -> f64 {
    2.0
}

impl Fields for CategoricalFocalSpec {
    const ALSO: &'static [&'static str] = &[
        "categoricalfocalcrossentropy",
        "categoricalfocalloss",
        "softmaxfocalloss",
    ];
    const TAKES: Takes = Takes::Classes;
    const FOLDS: Trailing = Trailing::Softmax;

    fn check(&self, path: &str, found: &mut Findings) {
        found.not_negative(self.gamma, format!("{path}.gamma"));
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::classes(output, targets)
    }
}
