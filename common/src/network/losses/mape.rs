//! Mean absolute percentage error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// 100 |y - t| / |t|, the mean over the outputs; a |t| below 1e-7 counts as 1e-7.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapeSpec {}

impl Fields for MapeSpec {
    const ALSO: &'static [&'static str] = &["meanabsolutepercentageerror"];
    const TAKES: Takes = Takes::Values;
}
