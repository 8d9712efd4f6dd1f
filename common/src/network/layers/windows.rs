//! What all pooling layers have in common: a window that moves, of 1, 2 or 3 dimensions.

use super::Findings;
use super::framing::check_triple;
use super::moving::{self, Movement, as_image, as_sequence, check_padding, in_one_row};
use super::shared::check_pair;
use super::volumes;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::PoolKind;
use crate::network::words::{Padding, Pair, Triple};

/// The fields of a pooling layer whose window has a size `S`.
pub(super) struct Windows<'a, S> {
    pub(super) size: S,
    /// None: equal to the size.
    pub(super) stride: Option<S>,
    pub(super) padding: &'a Padding,
    pub(super) ceil: bool,
}

impl Windows<'_, usize> {
    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.size, format!("{path}.size"));
        if let Some(stride) = self.stride {
            found.at_least_one(stride, format!("{path}.stride"));
        }
        check_padding(self.padding, 1, path, found);
    }

    pub(super) fn pool(
        &self,
        at: &mut Builder,
        input: &Tensor,
        kind: PoolKind,
        count_padding: bool,
    ) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: in_one_row(self.size),
            stride: in_one_row(self.stride.unwrap_or(self.size)),
            dilation: Pair::one(),
            padding: self.padding,
            ceil: self.ceil,
            dimensions: 1,
        };
        let image = as_image(input)?;
        let pooled = moving::pool(at, &image, kind, count_padding, &movement)?;
        Ok(as_sequence(&pooled))
    }
}

impl Windows<'_, Pair> {
    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        check_pair(self.size, format!("{path}.size"), found);
        if let Some(stride) = self.stride {
            check_pair(stride, format!("{path}.stride"), found);
        }
        check_padding(self.padding, 2, path, found);
    }

    pub(super) fn pool(
        &self,
        at: &mut Builder,
        input: &Tensor,
        kind: PoolKind,
        count_padding: bool,
    ) -> Result<Tensor, Problem> {
        let movement = Movement {
            size: self.size,
            stride: self.stride.unwrap_or(self.size),
            dilation: Pair::one(),
            padding: self.padding,
            ceil: self.ceil,
            dimensions: 2,
        };
        moving::pool(at, input, kind, count_padding, &movement)
    }
}

impl Windows<'_, Triple> {
    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        check_triple(self.size, format!("{path}.size"), found);
        if let Some(stride) = self.stride {
            check_triple(stride, format!("{path}.stride"), found);
        }
        check_padding(self.padding, 3, path, found);
    }

    pub(super) fn pool(
        &self,
        at: &mut Builder,
        input: &Tensor,
        kind: PoolKind,
        count_padding: bool,
    ) -> Result<Tensor, Problem> {
        let movement = volumes::Movement {
            what: "window",
            size: self.size,
            stride: self.stride.unwrap_or(self.size),
            dilation: Triple::one(),
            padding: self.padding,
            ceil: self.ceil,
        };
        volumes::pool(at, input, kind, count_padding, &movement)
    }
}
