//! Some samples of a recurrent layer: their values in the order in which steps are computed.

use trainyard_common::network::Recurrent;

use crate::gemm::{View, gemm};
use crate::ops::dense::add;
use crate::simd::vectorized;

/// Samples of one task, at least, and tasks, at most.
const SAMPLES: usize = 16;
const TASKS: usize = 4;

/// Samples that one task computes, of so many.
pub(super) fn samples_of_task(samples: usize) -> usize {
    samples.div_ceil(TASKS).max(SAMPLES)
}

/// Each part holds steps one after the other, in the order of computing, and in each step its samples.
pub(super) struct Piece<'a> {
    pub(super) op: &'a Recurrent,
    pub(super) samples: usize,
    /// [steps, samples, features]
    pub(super) input: &'a mut [f32],
    /// [steps, samples, gates * units]: before their functions, after them, and then gradients.
    pub(super) gates: &'a mut [f32],
    /// [steps, samples, units]: what is put out.
    pub(super) hidden: &'a mut [f32],
    /// What else the cell keeps of a step.
    pub(super) extra: &'a mut [f32],
    /// [steps, samples]: 1 for a step that is left out; empty without masks.
    pub(super) mask: &'a mut [f32],
}

/// Gradients that flow from a step to the one before.
pub(super) struct Flow<'a> {
    /// [samples, units], of what the step put out.
    pub(super) hidden: &'a mut [f32],
    /// The same, of what else it handed on.
    pub(super) state: &'a mut [f32],
    /// Anybody's.
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Piece<'a> {
    /// `values`: [`Recurrent::kept`] for each sample.
    pub(super) fn new(op: &'a Recurrent, values: &'a mut [f32]) -> Self {
        let samples = values.len() / op.kept();
        let len = |a_step: usize| samples * op.steps * a_step;
        let (input, rest) = values.split_at_mut(len(op.features));
        let (gates, rest) = rest.split_at_mut(len(op.gates()));
        let (hidden, rest) = rest.split_at_mut(len(op.units));
        let (extra, mask) = rest.split_at_mut(len(op.extra()));
        Self {
            op,
            samples,
            input,
            gates,
            hidden,
            extra,
            mask,
        }
    }

    /// The step of the sequence that is computed as the k-th.
    fn step(&self, k: usize) -> usize {
        match self.op.backwards {
            true => self.op.steps - 1 - k,
            false => k,
        }
    }

    /// Where the k-th output stands among those that are put out.
    fn place(&self, k: usize) -> usize {
        if self.op.aligned { self.step(k) } else { k }
    }

    /// Takes samples [samples, steps, features] in.
    pub(super) fn gather(&mut self, from: &[f32]) {
        let (steps, width) = (self.op.steps, self.op.features);
        for k in 0..steps {
            let step = self.step(k);
            let rows = self.input[k * self.samples * width..].chunks_exact_mut(width);
            for (sample, row) in rows.take(self.samples).enumerate() {
                row.copy_from_slice(&from[(sample * steps + step) * width..][..width]);
            }
        }
        if let Some(value) = self.op.mask_value {
            let rows = self.input.chunks_exact(width);
            for (mask, row) in self.mask.iter_mut().zip(rows) {
                *mask = f32::from(u8::from(row.iter().all(|&v| v == value)));
            }
        }
    }

    /// The other way round, of gradients that took the place of the input.
    pub(super) fn scatter(&self, to: &mut [f32]) {
        let (steps, width) = (self.op.steps, self.op.features);
        for k in 0..steps {
            let step = self.step(k);
            let rows = self.input[k * self.samples * width..].chunks_exact(width);
            for (sample, row) in rows.take(self.samples).enumerate() {
                to[(sample * steps + step) * width..][..width].copy_from_slice(row);
            }
        }
    }

    /// gates = bias + input kernel, of all steps.
    pub(super) fn project(&mut self, kernel: &[f32], bias: Option<&[f32]>) {
        let width = self.op.gates();
        if let Some(bias) = bias {
            fill(self.gates, bias);
        }
        gemm(
            self.gates,
            bias.is_some(),
            View::new(self.input, self.op.steps * self.samples, self.op.features),
            View::new(kernel, self.op.features, width),
        );
    }

    /// Which samples leave the k-th step out; empty without masks.
    pub(super) fn masked(mask: &[f32], k: usize, samples: usize) -> &[f32] {
        match mask {
            [] => mask,
            mask => &mask[k * samples..][..samples],
        }
    }

    /// Writes what is put out: [samples, steps, units] or the last step's [samples, units].
    pub(super) fn put_out(&self, output: &mut [f32]) {
        let (steps, width) = (self.op.steps, self.op.units);
        if !self.op.sequences {
            output.copy_from_slice(&self.hidden[(steps - 1) * self.samples * width..]);
            return;
        }
        for k in 0..steps {
            let place = self.place(k);
            let rows = self.hidden[k * self.samples * width..].chunks_exact(width);
            for (sample, row) in rows.take(self.samples).enumerate() {
                output[(sample * steps + place) * width..][..width].copy_from_slice(row);
            }
        }
    }

    /// Adds the gradient of what the k-th step put out.
    pub(super) fn take_in(&self, gradient: &[f32], k: usize, hidden: &mut [f32]) {
        let (steps, width) = (self.op.steps, self.op.units);
        if !self.op.sequences && k + 1 < steps {
            return;
        }
        for (sample, row) in hidden.chunks_exact_mut(width).enumerate() {
            let start = match self.op.sequences {
                true => (sample * steps + self.place(k)) * width,
                false => sample * width,
            };
            for (sum, value) in row.iter_mut().zip(&gradient[start..start + width]) {
                *sum += value;
            }
        }
    }

    /// dkernel = input^T dgates, and the input's gradient in its place.
    pub(super) fn unproject(&mut self, kernel: &[f32], kernel_gradient: &mut [f32], onward: bool) {
        let (rows, features, width) = (
            self.op.steps * self.samples,
            self.op.features,
            self.op.gates(),
        );
        let gates = View::new(self.gates, rows, width);
        let input = View::new(self.input, rows, features);
        gemm(kernel_gradient, false, input.transposed(), gates);
        if onward {
            let kernel = View::new(kernel, features, width);
            gemm(self.input, false, gates, kernel.transposed());
        }
    }
}

/// Every row becomes `row`.
pub(super) fn fill(values: &mut [f32], row: &[f32]) {
    values
        .chunks_exact_mut(row.len())
        .for_each(|values| values.copy_from_slice(row));
}

/// The part of the k-th step, and that of the step before it: empty for the first.
pub(super) fn at_step(values: &mut [f32], k: usize, len: usize) -> (&[f32], &mut [f32]) {
    let (before, rest) = values.split_at_mut(k * len);
    (&before[k.saturating_sub(1) * len..], &mut rest[..len])
}

/// Samples that leave a step out keep what they had: `before`, at first zeros.
pub(super) fn hold(mask: &[f32], before: &[f32], now: &mut [f32], width: usize) {
    for (sample, row) in now.chunks_exact_mut(width).enumerate() {
        match (
            mask.get(sample),
            before.get(sample * width..(sample + 1) * width),
        ) {
            (Some(&1.0), Some(before)) => row.copy_from_slice(before),
            (Some(&1.0), None) => row.fill(0.0),
            _ => {}
        }
    }
}

/// sums[c] = sum of column c over all rows, from the first to the last.
pub(super) fn sum_rows(values: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    let width = sums.len();
    vectorized(
        #[inline(always)]
        || values.chunks_exact(width).for_each(|row| add(sums, row)),
    );
}
