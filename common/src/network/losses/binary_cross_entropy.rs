//! Cross-entropy of labels that are or are not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes, Trailing};

/// Of targets in [0, 1]. A sigmoid at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryCrossEntropySpec {}

impl Fields for BinaryCrossEntropySpec {
    const TAKES: Takes = Takes::Classes;
    const FOLDS: Trailing = Trailing::Sigmoid;
}
