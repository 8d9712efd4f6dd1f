//! Mean squared error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// (y - t)^2, the mean over the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MseSpec {}

impl Fields for MseSpec {
    const ALSO: &'static [&'static str] = &[
        "meansquarederror",
        "mseloss",
        "l2",
        "l2loss",
        "squarederror",
    ];
    const TAKES: Takes = Takes::Values;
}
