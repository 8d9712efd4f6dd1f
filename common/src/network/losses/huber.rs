//! Loss of Huber.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes};

/// Quadratic within `delta` of the target, linear beyond (Huber 1964).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HuberSpec {
    #[serde(default = "one")]
    pub delta: f64,
}

fn one() -> f64 {
    1.0
}

impl Fields for HuberSpec {
    const TAKES: Takes = Takes::Values;

    fn check(&self, path: &str, found: &mut Findings) {
        found.positive(self.delta, format!("{path}.delta"));
    }
}
