//! `dropout`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};

/// In training, sets a share of the values to 0 and scales the rest by 1 / (1 - rate).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dropout {
    /// In [0, 1).
    rate: f64,
}

impl Layer for Dropout {
    const WORD: &'static str = "dropout";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.rate, format!("{path}.rate"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        if !(0.0..1.0).contains(&self.rate) {
            let given = self.rate;
            return Err(Problem::Other(format!("rate {given}; accepted: [0, 1)")));
        }
        let op = Op::Dropout(ops::Dropout { rate: self.rate });
        at.apply(op, &[input], input.shape.clone(), Vec::new())
    }
}
