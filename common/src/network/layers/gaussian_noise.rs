//! `gaussian_noise`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{Noise, Op};
use crate::network::range::is_not_negative;

/// In training, adds noise of mean 0 to each value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GaussianNoise {
    /// The noise's standard deviation.
    stddev: f64,
}

impl Layer for GaussianNoise {
    const WORD: &'static str = "gaussian_noise";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.expect(
            is_not_negative(self.stddev),
            format!("{path}.stddev"),
            self.stddev,
            "numbers from 0",
        );
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let op = Op::Noise(Noise::Additive {
            deviation: self.stddev,
        });
        at.apply(op, &[input], input.shape.clone(), Vec::new())
    }
}
