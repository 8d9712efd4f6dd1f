//! Cross-entropy of labels that are or are not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, TargetKind, Trailing, output};

/// -t log p - (1 - t) log(1 - p), p = sigmoid(y), the mean over the outputs; targets in [0, 1]: two classes over one output, or
/// each output a label of its own. A sigmoid at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryCrossEntropySpec {
    /// A target t becomes t (1 - label_smoothing) + label_smoothing / 2; in [0, 1).
    #[serde(default, skip_serializing_if = "is_none")]
    pub label_smoothing: f64,
}

/// Left out of what is stored: workers of before it know no such field.
fn is_none(smoothing: &f64) -> bool {
    *smoothing == 0.0
}

impl Fields for BinaryCrossEntropySpec {
    const ALSO: &'static [&'static str] = &[
        "binarycrossentropy",
        "bce",
        "bceloss",
        "bcewithlogitsloss",
        "bcewithlogits",
        "multilabelsoftmarginloss",
    ];
    const TAKES: Takes = Takes::Both;
    const FOLDS: Trailing = Trailing::Sigmoid;

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.label_smoothing, format!("{path}.label_smoothing"));
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::labels(output, targets)
    }
}
