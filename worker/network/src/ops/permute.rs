//! The dimensions of each sample in another order.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

/// A walk over the output of a sample, which lies without gaps, and the places of its values in the input.
#[derive(Debug)]
pub(super) struct Permute {
    /// (size, distance in the input) of each dimension of the output; neighbours of the input that stay neighbours
    /// are one.
    dimensions: Vec<(usize, usize)>,
    len: usize,
}

impl Permute {
    pub(super) fn new(op: &network::Permute) -> Self {
        let distance = |from: usize| op.shape[from + 1..].iter().product::<usize>();
        let mut dimensions: Vec<(usize, usize)> = Vec::new();
        for &from in &op.order {
            let (size, distance) = (op.shape[from], distance(from));
            match dimensions.last_mut() {
                Some(last) if last.1 == size * distance => *last = (last.0 * size, distance),
                _ => dimensions.push((size, distance)),
            }
        }
        Self {
            len: op.shape.iter().product(),
            dimensions,
        }
    }

    /// Hands each run of the output (its start and length) to `visit`, with the start of its values in the input and
    /// their distance there.
    fn for_each_run(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (outer, inner) = self.dimensions.split_at(self.dimensions.len() - 1);
        let (run, distance) = inner[0];
        let mut counters = vec![0; outer.len()];
        let (mut start, mut from) = (0, 0);
        while start < self.len {
            visit(start, run, from, distance);
            start += run;
            for (counter, &(size, distance)) in counters.iter_mut().zip(outer).rev() {
                *counter += 1;
                from += distance;
                if *counter < size {
                    break;
                }
                from -= size * distance;
                *counter = 0;
            }
        }
    }

    /// Values of whole samples that one task handles.
    fn task(&self) -> usize {
        BLOCK.next_multiple_of(self.len)
    }
}

impl Kernel for Permute {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        output
            .par_chunks_mut(self.task())
            .zip(inputs[0].par_chunks(self.task()))
            .for_each(|(output, input)| {
                let samples = output.chunks_exact_mut(self.len);
                for (output, input) in samples.zip(input.chunks_exact(self.len)) {
                    self.for_each_run(|start, run, from, distance| {
                        let values = input[from..].iter().step_by(distance);
                        for (output, &value) in output[start..start + run].iter_mut().zip(values) {
                            *output = value;
                        }
                    });
                }
            });
    }

    fn backward(
        &self,
        _: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        let Some(target) = targets[0].as_deref_mut() else {
            return;
        };
        target
            .par_chunks_mut(self.task())
            .zip(gradient.par_chunks(self.task()))
            .for_each(|(target, gradient)| {
                let samples = target.chunks_exact_mut(self.len);
                for (target, gradient) in samples.zip(gradient.chunks_exact(self.len)) {
                    self.for_each_run(|start, run, from, distance| {
                        let values = target[from..].iter_mut().step_by(distance);
                        for (value, &gradient) in values.zip(&gradient[start..start + run]) {
                            *value = gradient;
                        }
                    });
                }
            });
    }
}
