//! `threshold`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{only, pointwise};
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{Function, Scalar};

/// x above `theta`, `value` elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Threshold {
    theta: f64,
    #[serde(default)]
    value: f64,
}

impl Layer for Threshold {
    const WORD: &'static str = "threshold";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        for (field, number) in [("theta", self.theta), ("value", self.value)] {
            let path = format!("{path}.{field}");
            found.expect(number.is_finite(), path, number, "finite numbers");
        }
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let (theta, value) = (self.theta as f32, self.value as f32);
        let function = Function::Scalar(Scalar::Threshold { theta, value });
        pointwise(at, only(inputs)?, function)
    }
}
