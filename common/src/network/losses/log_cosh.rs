//! Logarithm of the hyperbolic cosine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// log(cosh(y - t)), the mean over the outputs: d^2 / 2 near the target, |d| - log 2 far from it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogCoshSpec {}

impl Fields for LogCoshSpec {
    const ALSO: &'static [&'static str] = &["logcosh"];
    const TAKES: Takes = Takes::Values;
}
