//! `positional_encoding`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Layer;
use super::recurrent::needs_sequence;
use super::shared::only;
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};
use crate::network::words::Initializer;

/// Adds to each step what tells its place: sines and cosines of several wavelengths (Vaswani et al. 2017), or a learned row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PositionalEncoding {
    #[serde(default)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// sin(p / 10000^(2i/d)) to feature 2i of step p, the cosine to feature 2i + 1.
    #[default]
    Sinusoidal,
    Learned,
}

impl Layer for PositionalEncoding {
    const WORD: &'static str = "positional_encoding";
    const ABOUT: &'static str = "`[steps, features]` to the same";

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let [steps, features] = input.shape[..] else {
            return Err(needs_sequence(input));
        };
        let learned = self.kind == Kind::Learned;
        let op = Op::Positions(ops::Positions {
            steps,
            features,
            learned,
        });
        let table = learned.then(|| {
            NewParameter::drawn(
                "position_embeddings",
                vec![steps, features],
                Initializer::GlorotUniform,
                (steps, features),
            )
        });
        at.apply(
            op,
            &[input],
            input.shape.clone(),
            table.into_iter().collect(),
        )
    }
}
