//! `embedding`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};
use crate::network::words::Initializer;

/// Largest vocabulary: samples are 32-bit floats, which have every whole number up to 2^24.
const MAX_VOCABULARY: usize = 1 << 24;

/// A row of a table for each whole number of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Embedding {
    /// Numbers are 0 to this - 1.
    vocabulary: usize,
    /// Width of a row.
    dimensions: usize,
    /// The number 0 fills up short sequences: its row is zeros, which `mask_value: 0` of a recurrent layer leaves out.
    #[serde(default)]
    mask_zero: bool,
    #[serde(default = "uniform")]
    embeddings_initializer: Initializer,
}

fn uniform() -> Initializer {
    Initializer::Uniform
}

impl Layer for Embedding {
    const WORD: &'static str = "embedding";
    const ABOUT: &'static str = "samples `[steps]` of whole numbers to `[steps, dimensions]`";

    fn check(&self, path: &str, found: &mut Findings) {
        found.expect(
            (1..=MAX_VOCABULARY).contains(&self.vocabulary),
            format!("{path}.vocabulary"),
            self.vocabulary,
            "whole numbers from 1 to 16777216",
        );
        found.at_least_one(self.dimensions, format!("{path}.dimensions"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        for (size, field) in [
            (self.vocabulary, "vocabulary"),
            (self.dimensions, "dimensions"),
        ] {
            if size == 0 {
                return Err(Problem::Zero { field });
            }
        }
        if self.vocabulary > MAX_VOCABULARY {
            return Err(Problem::Other(format!(
                "`vocabulary` is {}; accepted are whole numbers to {MAX_VOCABULARY}",
                self.vocabulary
            )));
        }
        if !input.is_of_samples() {
            return Err(Problem::other(
                "its input is what another layer put out; accepted are the whole numbers of the samples: first in the \
                 list, or with `from: input`",
            ));
        }
        let mut shape = input.shape.clone();
        shape.push(self.dimensions);
        let op = Op::Embedding(ops::Embedding {
            vocabulary: self.vocabulary,
            dimensions: self.dimensions,
            mask_zero: self.mask_zero,
        });
        let table = NewParameter::drawn(
            "embeddings",
            vec![self.vocabulary, self.dimensions],
            self.embeddings_initializer,
            (self.vocabulary, self.dimensions),
        );
        at.apply(op, &[input], shape, vec![table])
    }
}
