//! Mean squared logarithmic error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// (log(1 + y) - log(1 + t))^2, the mean over the outputs; targets from 0. Outputs below 0 count as 0 and have no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MsleSpec {}

impl Fields for MsleSpec {
    const ALSO: &'static [&'static str] = &["meansquaredlogarithmicerror", "meansquaredlogerror"];
    const TAKES: Takes = Takes::Values;
}
