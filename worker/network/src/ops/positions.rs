//! Adds to each step what tells its place (Vaswani et al. 2017).

use rayon::prelude::*;
use trainyard_common::network;

use super::dense::add;
use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;
/// The longest wavelength is this times 2 pi.
const WAVELENGTH: f64 = 10_000.0;

/// Parameter, where it is learned: the table [steps, features].
#[derive(Debug)]
pub(super) struct Positions {
    learned: bool,
    len: usize,
    /// Empty where it is learned.
    table: Vec<f32>,
}

impl Positions {
    pub(super) fn new(op: &network::Positions) -> Self {
        let value = |i: usize| {
            let (step, feature) = (i / op.features, i % op.features);
            let power = (2 * (feature / 2)) as f64 / op.features as f64;
            let angle = step as f64 / libm::pow(WAVELENGTH, power);
            let wave = if feature % 2 == 0 {
                libm::sin
            } else {
                libm::cos
            };
            wave(angle) as f32
        };
        let len = op.steps * op.features;
        Self {
            learned: op.learned,
            len,
            table: match op.learned {
                true => Vec::new(),
                false => (0..len).map(value).collect(),
            },
        }
    }
}

impl Kernel for Positions {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        output.copy_from_slice(inputs[0]);
        self.forward_in_place(at, output);
    }

    fn forward_in_place(&self, at: &At<'_>, values: &mut [f32]) {
        let table = match self.learned {
            true => at.parameters[0],
            false => &self.table,
        };
        values
            .par_chunks_mut(BLOCK.next_multiple_of(self.len))
            .for_each(|samples| {
                samples
                    .chunks_exact_mut(self.len)
                    .for_each(|s| add(s, table))
            });
    }

    fn backward(
        &self,
        _: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        _: &mut [Option<&mut [f32]>],
        parameter_gradient: &mut [f32],
        _: &mut Kept,
    ) {
        parameter_gradient.fill(0.0);
        if self.learned {
            gradient
                .chunks_exact(self.len)
                .for_each(|sample| add(parameter_gradient, sample));
        }
    }
}
