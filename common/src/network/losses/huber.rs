//! Loss of Huber.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes};

/// Of d = |y - t|: d^2 / 2 up to `delta`, delta (d - delta / 2) beyond, the mean over the outputs (Huber 1964).
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
    const ALSO: &'static [&'static str] = &["huberloss", "smoothl1", "smoothl1loss"];
    const TAKES: Takes = Takes::Values;

    fn check(&self, path: &str, found: &mut Findings) {
        found.positive(self.delta, format!("{path}.delta"));
    }
}
