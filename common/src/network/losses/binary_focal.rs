//! Focal loss of labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Findings, Takes, TargetKind, Trailing, output};

/// -(1 - p_t)^gamma log p_t, p_t = p of targets of 1 and 1 - p of those of 0, p = sigmoid(y), the mean over the outputs
/// (Lin et al. 2017). A sigmoid at the end of the model is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryFocalSpec {
    /// What is right already counts the less the larger it is; from 0.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Weight of targets of 1; those of 0 have 1 - alpha. Unset: both 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

fn two() -> f64 {
    2.0
}

impl Fields for BinaryFocalSpec {
    const ALSO: &'static [&'static str] = &[
        "focal",
        "focalloss",
        "sigmoidfocalloss",
        "binaryfocalcrossentropy",
    ];
    const TAKES: Takes = Takes::Both;
    const FOLDS: Trailing = Trailing::Sigmoid;

    fn check(&self, path: &str, found: &mut Findings) {
        found.not_negative(self.gamma, format!("{path}.gamma"));
        if let Some(alpha) = self.alpha {
            super::inner(alpha, path, "alpha", found);
        }
    }

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::labels(output, targets)
    }
}
