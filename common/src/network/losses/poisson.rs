//! Likelihood of a Poisson distribution.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes};

/// e^y - t y, the mean over the outputs, which are logarithms of rates (predictions are the rates); targets from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoissonSpec {
    /// False: the outputs are the rates, above 0, and the loss is y - t log(y + 1e-7).
    #[serde(default = "yes")]
    pub log_input: bool,
}

fn yes() -> bool {
    true
}

impl Fields for PoissonSpec {
    const ALSO: &'static [&'static str] = &["poissonnll", "poissonnllloss"];
    const TAKES: Takes = Takes::Values;
}
