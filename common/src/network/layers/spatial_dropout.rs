//! `spatial_dropout`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{Channels, Noise, Op};

/// In training, sets whole channels of an image or volume, whole features of a sequence, to 0 and scales the rest by
/// 1 / (1 - rate) (Tompson et al. 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpatialDropout {
    /// In [0, 1).
    rate: f64,
}

impl Layer for SpatialDropout {
    const WORD: &'static str = "spatial_dropout";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.share(self.rate, format!("{path}.rate"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let op = Op::Noise(Noise::Channels {
            rate: self.rate,
            channels: Channels::of(&input.shape),
            len: input.len(),
        });
        at.apply(op, &[input], input.shape.clone(), Vec::new())
    }
}
