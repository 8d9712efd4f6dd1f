//! Mean absolute error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// |y - t|, the mean over the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaeSpec {}

impl Fields for MaeSpec {
    const ALSO: &'static [&'static str] = &["meanabsoluteerror", "l1", "l1loss", "absoluteerror"];
    const TAKES: Takes = Takes::Values;
}
