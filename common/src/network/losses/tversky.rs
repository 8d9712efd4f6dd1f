//! Overlap of masks by Tversky.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, Trailing};

/// 1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth) over all outputs of a sample, TP = sum(p t), FP = sum(p (1 - t)),
/// FN = sum((1 - p) t), p = sigmoid(y), t in [0, 1] (Salehi et al. 2017). A sigmoid at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TverskySpec {
    /// Weight of what is wrongly in the mask; from 0.
    #[serde(default = "half")]
    pub alpha: f64,
    /// Weight of what is missing in it; from 0.
    #[serde(default = "half")]
    pub beta: f64,
    /// Added above and below the line; above 0.
    #[serde(default = "one")]
    pub smooth: f64,
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

impl Fields for TverskySpec {
    const ALSO: &'static [&'static str] = &["tverskyloss"];
    const TAKES: Takes = Takes::Values;
    const FOLDS: Trailing = Trailing::Sigmoid;

    fn check(&self, path: &str, found: &mut Findings) {
        found.not_negative(self.alpha, format!("{path}.alpha"));
        found.not_negative(self.beta, format!("{path}.beta"));
        found.positive(self.smooth, format!("{path}.smooth"));
    }
}
