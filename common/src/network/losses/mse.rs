//! Mean squared error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// Mean of (y - t)^2.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MseSpec {}

impl Fields for MseSpec {
    const TAKES: Takes = Takes::Values;
}
