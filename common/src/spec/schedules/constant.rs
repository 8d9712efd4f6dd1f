//! No schedule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Position, Schedule};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantSchedule {}

impl Schedule for ConstantSchedule {
    fn check(&self, _: &str, _: &mut Findings) {}

    fn rate(&self, base: f64, _: Position) -> f64 {
        base
    }
}
