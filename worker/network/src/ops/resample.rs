//! Planes of another size: each dimension by a table of weighted sums, one dimension after the other.

use std::cell::RefCell;

use rayon::prelude::*;
use trainyard_common::network::{self, Axis, Method};

use super::{At, Kept, Kernel, Known};
use crate::simd::vectorized;

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 14;

thread_local! {
    /// What a plane is after all dimensions but the last: two of them, taken in turns.
    static BETWEEN: RefCell<[Vec<f32>; 2]> = RefCell::default();
}

#[derive(Debug)]
pub(super) struct Resample {
    /// Dimensions whose length changes: those that become shorter first.
    steps: Vec<Step>,
    /// Values of a plane before and after.
    len: usize,
    out: usize,
}

/// `[outer, n, inner]` to `[outer, out, inner]`.
#[derive(Debug)]
struct Step {
    n: usize,
    outer: usize,
    inner: usize,
    /// Per position: the first value that it takes.
    starts: Vec<usize>,
    /// Per position: what follows it from there on.
    weights: Vec<Vec<f32>>,
}

impl Step {
    fn new(axis: Axis, outer: usize, inner: usize) -> Self {
        let table = (0..axis.out).map(|position| taken(axis, position));
        let (starts, weights) = table.unzip();
        Self {
            n: axis.n,
            outer,
            inner,
            starts,
            weights,
        }
    }

    fn out(&self) -> usize {
        self.starts.len()
    }

    fn input_len(&self) -> usize {
        self.outer * self.n * self.inner
    }

    fn output_len(&self) -> usize {
        self.outer * self.out() * self.inner
    }

    /// Calls `visit(outer, position, value, weight)` in a fixed order.
    #[inline(always)]
    fn for_each(&self, mut visit: impl FnMut(usize, usize, f32)) {
        for outer in 0..self.outer {
            for (position, (start, weights)) in self.starts.iter().zip(&self.weights).enumerate() {
                let to = (outer * self.out() + position) * self.inner;
                for (at, &weight) in weights.iter().enumerate() {
                    visit(to, (outer * self.n + start + at) * self.inner, weight);
                }
            }
        }
    }

    #[inline(always)]
    fn forward(&self, input: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        let inner = self.inner;
        self.for_each(|to, from, weight| {
            let pairs = output[to..to + inner]
                .iter_mut()
                .zip(&input[from..from + inner]);
            pairs.for_each(|(to, from)| *to += weight * from);
        });
    }

    /// The adjoint.
    #[inline(always)]
    fn backward(&self, gradient: &[f32], target: &mut [f32]) {
        target.fill(0.0);
        let inner = self.inner;
        self.for_each(|from, to, weight| {
            let pairs = target[to..to + inner]
                .iter_mut()
                .zip(&gradient[from..from + inner]);
            pairs.for_each(|(to, from)| *to += weight * from);
        });
    }
}

/// The first value that a position takes, and the weights from there on.
fn taken(axis: Axis, position: usize) -> (usize, Vec<f32>) {
    let (n, out) = (axis.n, axis.out);
    let start = (position as u128 * n as u128 / out as u128) as usize;
    match axis.method {
        Method::Nearest => (start, vec![1.0]),
        Method::Mean => {
            let end = ((position as u128 + 1) * n as u128).div_ceil(out as u128) as usize;
            (start, vec![1.0 / (end - start) as f32; end - start])
        }
        Method::Linear => {
            let place = ((position as f64 + 0.5) * n as f64 / out as f64 - 0.5).max(0.0);
            let first = (place as usize).min(n - 1);
            let share = (place - first as f64) as f32;
            match first + 1 < n {
                true => (first, vec![1.0 - share, share]),
                false => (first, vec![1.0]),
            }
        }
    }
}

impl Resample {
    pub(super) fn new(op: &network::Resample) -> Self {
        let mut shape: Vec<usize> = op.axes.iter().map(|axis| axis.n).collect();
        let mut order: Vec<usize> = (0..shape.len())
            .filter(|&at| op.axes[at].n != op.axes[at].out)
            .collect();
        order.sort_by_key(|&at| op.axes[at].out > op.axes[at].n);
        let mut steps = Vec::with_capacity(order.len());
        for at in order {
            let (outer, inner) = (
                shape[..at].iter().product(),
                shape[at + 1..].iter().product(),
            );
            steps.push(Step::new(op.axes[at], outer, inner));
            shape[at] = op.axes[at].out;
        }
        Self {
            steps,
            len: op.axes.iter().map(|axis| axis.n).product(),
            out: op.axes.iter().map(|axis| axis.out).product(),
        }
    }

    fn planes(&self) -> usize {
        (BLOCK / self.len.max(self.out)).max(1)
    }

    #[inline(always)]
    fn forward_plane(&self, input: &[f32], output: &mut [f32], between: &mut [Vec<f32>; 2]) {
        let Some((last, steps)) = self.steps.split_last() else {
            output.copy_from_slice(input);
            return;
        };
        let [from, to] = between;
        for (at, step) in steps.iter().enumerate() {
            to.resize(step.output_len(), 0.0);
            step.forward(if at == 0 { input } else { from }, to);
            std::mem::swap(from, to);
        }
        last.forward(if steps.is_empty() { input } else { from }, output);
    }

    #[inline(always)]
    fn backward_plane(&self, gradient: &[f32], target: &mut [f32], between: &mut [Vec<f32>; 2]) {
        let Some((first, steps)) = self.steps.split_first() else {
            target.copy_from_slice(gradient);
            return;
        };
        let [from, to] = between;
        for (at, step) in steps.iter().rev().enumerate() {
            to.resize(step.input_len(), 0.0);
            step.backward(if at == 0 { gradient } else { from }, to);
            std::mem::swap(from, to);
        }
        first.backward(if steps.is_empty() { gradient } else { from }, target);
    }
}

impl Kernel for Resample {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let planes = self.planes();
        output
            .par_chunks_mut(planes * self.out)
            .zip(inputs[0].par_chunks(planes * self.len))
            .for_each(|(output, input)| {
                BETWEEN.with_borrow_mut(|between| {
                    let pairs = output.chunks_exact_mut(self.out);
                    for (output, input) in pairs.zip(input.chunks_exact(self.len)) {
                        vectorized(
                            #[inline(always)]
                            || self.forward_plane(input, output, between),
                        );
                    }
                });
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
        let planes = self.planes();
        target
            .par_chunks_mut(planes * self.len)
            .zip(gradient.par_chunks(planes * self.out))
            .for_each(|(target, gradient)| {
                BETWEEN.with_borrow_mut(|between| {
                    let pairs = target.chunks_exact_mut(self.len);
                    for (target, gradient) in pairs.zip(gradient.chunks_exact(self.out)) {
                        vectorized(
                            #[inline(always)]
                            || self.backward_plane(gradient, target, between),
                        );
                    }
                });
            });
    }
}
