//! `permute`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Op};

/// Most dimensions of a sample, as `reshape` makes them.
const MAX_DIMENSIONS: usize = 4;

/// The dimensions of a sample in another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Permute {
    /// Which dimension of the input, from 1 and without the batch, becomes the first, the second, and so on.
    order: Vec<usize>,
}

impl Permute {
    /// Counted from 0, if each dimension stands there once.
    fn positions(&self) -> Option<Vec<usize>> {
        let count = self.order.len();
        let fits = (1..=MAX_DIMENSIONS).contains(&count)
            && (1..=count).all(|dimension| self.order.contains(&dimension));
        fits.then(|| self.order.iter().map(|dimension| dimension - 1).collect())
    }
}

impl Layer for Permute {
    const WORD: &'static str = "permute";
    const ABOUT: &'static str = "`[a, b, ...]` to its dimensions by `order`: `[b, a]` for [2, 1]";

    fn check(&self, path: &str, found: &mut Findings) {
        found.expect(
            self.positions().is_some(),
            format!("{path}.order"),
            format!("{:?}", self.order),
            "each dimension once, counted from 1: [2, 1], [3, 1, 2]",
        );
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let order = self.positions();
        let order = order.filter(|order| order.len() == input.shape.len());
        let Some(order) = order else {
            return Err(Problem::Other(format!(
                "`order` is {:?}, but its input is {:?}; accepted is each of its {} dimensions once, counted from 1",
                self.order,
                input.shape,
                input.shape.len()
            )));
        };
        let shape: Vec<usize> = order.iter().map(|&from| input.shape[from]).collect();
        // Dimensions of size 1 move no value.
        let moving: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&from| input.shape[from] > 1)
            .collect();
        if moving.is_sorted() {
            return Ok(input.arranged(shape));
        }
        let op = Op::Permute(ops::Permute {
            shape: input.shape.clone(),
            order,
        });
        at.apply(op, &[input], shape, Vec::new())
    }
}
