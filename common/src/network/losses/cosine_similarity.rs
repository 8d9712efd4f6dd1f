//! Angle between output and target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes, TargetKind, output};

/// 1 - y t / (|y| |t|) of output and target as vectors of at least two numbers; 1, without a gradient, where one of them is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineSimilaritySpec {}

impl Fields for CosineSimilaritySpec {
    const ALSO: &'static [&'static str] = &[
        "cosine",
        "cosinesimilarity",
        "cosineembeddingloss",
        "cosinedistance",
        "cosineproximity",
    ];
    const TAKES: Takes = Takes::Values;

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::several(output, targets)
    }
}
