//! `reshape`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::only;
use super::{Findings, Layer};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

/// Most dimensions of a sample.
const MAX_DIMENSIONS: usize = 4;

/// The same values, arranged otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reshape {
    /// Of a sample, without the batch. One of the sizes may be -1: what is left over.
    shape: Vec<i64>,
}

impl Reshape {
    /// The sizes for so many values, where they fit.
    fn sizes(&self, values: usize) -> Option<Vec<usize>> {
        let mut known = self.shape.iter().filter(|&&size| size >= 0);
        let known = known.try_fold(1usize, |product, &size| {
            product.checked_mul(usize::try_from(size).ok()?)
        })?;
        let rest = values.checked_div(known)?;
        let sizes: Vec<usize> = self
            .shape
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(rest))
            .collect();
        let product = sizes
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        (product == Some(values)).then_some(sizes)
    }
}

impl Layer for Reshape {
    const WORD: &'static str = "reshape";
    const ABOUT: &'static str = "any to `shape`";

    fn check(&self, path: &str, found: &mut Findings) {
        let open = self.shape.iter().filter(|&&size| size == -1).count();
        let sizes = self.shape.iter().all(|&size| size == -1 || size >= 1);
        let fits = (1..=MAX_DIMENSIONS).contains(&self.shape.len()) && open <= 1 && sizes;
        found.expect(
            fits,
            format!("{path}.shape"),
            format!("{:?}", self.shape),
            "1 to 4 whole numbers from 1, one of which may be -1",
        );
    }

    fn lower(&self, _: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let sizes = self.sizes(input.len()).ok_or_else(|| {
            Problem::Other(format!(
                "its input is {:?}, {} values; accepted are shapes of as many, not {:?}",
                input.shape,
                input.len(),
                self.shape
            ))
        })?;
        Ok(input.arranged(sizes))
    }
}
