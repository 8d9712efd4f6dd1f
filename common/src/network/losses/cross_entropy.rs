//! Cross-entropy of a class among several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, Trailing};

/// -log softmax(y)`[class]`. A softmax at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropySpec {
    /// Share of the target spread evenly over all classes, in [0, 1).
    #[serde(default)]
    pub label_smoothing: f64,
}

impl Fields for CrossEntropySpec {
    const TAKES: Takes = Takes::Classes;
    const FOLDS: Trailing = Trailing::Softmax;

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.label_smoothing, format!("{path}.label_smoothing"));
    }
}
