//! Quantile regression.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes};

/// Of d = t - y: max(quantile d, (quantile - 1) d), the mean over the outputs (Koenker and Bassett 1978), also called pinball.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantileSpec {
    /// Share of the targets that are to lie below the output: above 0, below 1.
    pub quantile: f64,
}

impl Fields for QuantileSpec {
    const ALSO: &'static [&'static str] = &["pinball", "pinballloss", "quantileloss", "tilted"];
    const TAKES: Takes = Takes::Values;

    fn check(&self, path: &str, found: &mut Findings) {
        super::inner(self.quantile, path, "quantile", found);
    }
}
