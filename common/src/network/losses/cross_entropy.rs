//! Cross-entropy of a class among several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, TargetKind, Trailing, output};

/// -log softmax(y)`[class]`; of shares `t` of several classes -sum(t log softmax(y)). A softmax at the end of the model is
/// folded in. Of an output `[classes, height, width]` it is the mean over the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropySpec {
    /// Share of the target spread evenly over all classes, in [0, 1).
    #[serde(default)]
    pub label_smoothing: f64,
}

impl Fields for CrossEntropySpec {
    const ALSO: &'static [&'static str] = &[
        "sparsecategoricalcrossentropy",
        "categoricalcrossentropy",
        "crossentropyloss",
        "nll",
        "nllloss",
        "softmaxcrossentropy",
        "logloss",
    ];
    const TAKES: Takes = Takes::Both;
    const FOLDS: Trailing = Trailing::Softmax;

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.label_smoothing, format!("{path}.label_smoothing"));
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::classes(output, targets)
    }
}
