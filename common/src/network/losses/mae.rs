//! Mean absolute error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// Mean of |y - t|.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaeSpec {}

impl Fields for MaeSpec {
    const TAKES: Takes = Takes::Values;
}
