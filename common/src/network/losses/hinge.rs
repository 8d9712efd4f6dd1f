//! Hinge of labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes, TargetKind, output};

/// max(0, 1 - s y), the mean over the outputs; s is 1 for a target of 1 and -1 for one of 0 or -1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HingeSpec {}

impl Fields for HingeSpec {
    const ALSO: &'static [&'static str] = &["hingeloss", "binaryhinge", "hingeembeddingloss"];
    const TAKES: Takes = Takes::Both;

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::labels(output, targets)
    }
}
