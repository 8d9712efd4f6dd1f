//! `gaussian_dropout`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{Noise, Op};

/// In training, multiplies each value by noise of mean 1 and the deviation sqrt(rate / (1 - rate)) (Srivastava et al.
/// 2014, section 10).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GaussianDropout {
    /// In [0, 1).
    rate: f64,
}

impl Layer for GaussianDropout {
    const WORD: &'static str = "gaussian_dropout";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.rate, format!("{path}.rate"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let deviation = (self.rate / (1.0 - self.rate)).sqrt();
        let op = Op::Noise(Noise::Multiplicative { deviation });
        at.apply(op, &[input], input.shape.clone(), Vec::new())
    }
}
