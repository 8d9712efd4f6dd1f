//! A row of a table for each whole number of the samples.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

/// Parameter: the table [vocabulary, dimensions].
#[derive(Debug)]
pub(super) struct Embedding(pub(super) network::Embedding);

impl Embedding {
    /// The row of a value; none for what takes none: a mask, and what is no index, which was refused before.
    fn row(&self, value: f32) -> Option<usize> {
        let row = value as usize;
        let masked = self.0.mask_zero && row == 0;
        (!masked && row < self.0.vocabulary).then_some(row)
    }
}

impl Kernel for Embedding {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let width = self.0.dimensions;
        let task = (BLOCK / width).max(1);
        output
            .par_chunks_mut(task * width)
            .zip(inputs[0].par_chunks(task))
            .for_each(|(output, values)| {
                for (output, &value) in output.chunks_exact_mut(width).zip(values) {
                    match self.row(value) {
                        Some(row) => {
                            output.copy_from_slice(&at.parameters[0][row * width..][..width])
                        }
                        None => output.fill(0.0),
                    }
                }
            });
    }

    /// Rows are added in the order of the samples.
    fn backward(
        &self,
        _: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        _: &mut Kept,
    ) {
        let width = self.0.dimensions;
        parameter_gradient.fill(0.0);
        for (gradient, &value) in gradient.chunks_exact(width).zip(known.inputs[0]) {
            if let Some(row) = self.row(value) {
                super::dense::add(&mut parameter_gradient[row * width..][..width], gradient);
            }
        }
        // An index has no slope.
        if let Some(target) = targets[0].as_deref_mut() {
            target.fill(0.0);
        }
    }
}
