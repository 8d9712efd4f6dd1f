//! Overlap of masks by Dice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, Trailing};

/// 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) over all outputs of a sample, p = sigmoid(y), t in [0, 1] (Milletari
/// et al. 2016). A sigmoid at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiceSpec {
    /// Added above and below the line; above 0.
    #[serde(default = "one")]
    pub smooth: f64,
}

fn one() -> f64 {
    1.0
}

impl Fields for DiceSpec {
    const ALSO: &'static [&'static str] = &["diceloss", "f1loss", "softdice"];
    const TAKES: Takes = Takes::Values;
    const FOLDS: Trailing = Trailing::Sigmoid;

    fn check(&self, path: &str, found: &mut Findings) {
        found.positive(self.smooth, format!("{path}.smooth"));
    }
}
