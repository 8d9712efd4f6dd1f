//! `prelu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Channels, Op};

/// max(x, 0) + alpha min(x, 0) with an alpha that is learned (He et al. 2015): one for each channel of images, each
/// feature otherwise, or one for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prelu {
    /// Where it begins.
    #[serde(default = "default_alpha")]
    alpha: f64,
    /// One for all channels.
    #[serde(default)]
    shared: bool,
}

/// The paper's and PyTorch's; Keras begins at 0.
fn default_alpha() -> f64 {
    0.25
}

impl Layer for Prelu {
    const WORD: &'static str = "prelu";
    const ABOUT: &'static str = "any to the same";

    fn check(&self, path: &str, found: &mut Findings) {
        found.expect(
            self.alpha.is_finite(),
            format!("{path}.alpha"),
            self.alpha,
            "finite numbers",
        );
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let channels = Channels::of(&input.shape);
        let count = if self.shared { 1 } else { channels.channels };
        let op = Op::Prelu(ops::Prelu {
            channels,
            shared: self.shared,
        });
        let alpha = NewParameter::constant("alpha", vec![count], self.alpha as f32);
        at.apply(op, &[input], input.shape.clone(), vec![alpha])
    }
}
