//! Hinge between classes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fields, Takes, TargetKind, output};

/// max(0, 1 + max(y of the other classes) - y`[class]`) (Crammer and Singer 2001).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoricalHingeSpec {}

impl Fields for CategoricalHingeSpec {
    const ALSO: &'static [&'static str] =
        &["categoricalhinge", "multimarginloss", "multiclasshinge"];
    const TAKES: Takes = Takes::Classes;

    fn fits(&self, output: &[usize], targets: TargetKind) -> Result<(), String> {
        output::classes(output, targets)
    }
}
