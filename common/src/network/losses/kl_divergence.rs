//! Divergence of Kullback and Leibler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes, TargetKind, Trailing, output};

/// sum(t log(t / p)), p = softmax(y), of shares `t` of the classes. A softmax at the end of the model is folded in. Of an output
/// `[classes, height, width]` it is the mean over the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KlDivergenceSpec {}

impl Fields for KlDivergenceSpec {
    const ALSO: &'static [&'static str] = &[
        "kldivergence",
        "kullbackleiblerdivergence",
        "kld",
        "kldiv",
        "kldivloss",
        "kl",
    ];
    const TAKES: Takes = Takes::Values;
    const FOLDS: Trailing = Trailing::Softmax;

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::shares(output, targets)
    }
}
