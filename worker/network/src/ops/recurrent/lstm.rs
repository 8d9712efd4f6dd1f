//! Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).
//!
//! i, f, o = recurrent_activation(x W + h' U + b), g = activation(...), c = f c' + i g, h = o activation(c); the gates
//! lie in the order i, f, g, o. `extra` holds c of all steps, then activation(c).

use trainyard_common::network::Gate;

use super::Cell;
use super::gates::{SigmoidSlope, Slope, TanhSlope, apply};
use super::piece::{Flow, Piece, at_step, hold, sum_rows};
use super::simple::recurrent_kernel;
use crate::gemm::{View, gemm};
use crate::simd::vectorized;

pub(super) struct Lstm;

impl Cell for Lstm {
    fn forward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 4 * m * u..][..4 * m * u];
        let (before, hidden) = at_step(piece.hidden, k, m * u);
        if k > 0 {
            let kernel = View::new(parameters[1], u, 4 * u);
            gemm(gates, true, View::new(before, m, u), kernel);
        }
        let (cells, active) = piece.extra.split_at_mut(op.steps * m * u);
        let (cell_before, cell) = at_step(cells, k, m * u);
        let active = &mut active[k * m * u..][..m * u];
        let mask = Piece::masked(piece.mask, k, m);
        vectorized(
            #[inline(always)]
            || {
                for (sample, (row, cell)) in gates
                    .chunks_exact_mut(4 * u)
                    .zip(cell.chunks_exact_mut(u))
                    .enumerate()
                {
                    apply(op.recurrent_activation, &mut row[..2 * u]);
                    apply(op.activation, &mut row[2 * u..3 * u]);
                    apply(op.recurrent_activation, &mut row[3 * u..]);
                    let (i, f, g) = (&row[..u], &row[u..2 * u], &row[2 * u..3 * u]);
                    let inputs = i.iter().zip(g);
                    if k == 0 {
                        cell.iter_mut()
                            .zip(inputs)
                            .for_each(|(c, (i, g))| *c = i * g);
                        continue;
                    }
                    let kept = f.iter().zip(&cell_before[sample * u..]);
                    for ((cell, (i, g)), (f, before)) in cell.iter_mut().zip(inputs).zip(kept) {
                        *cell = f * before + i * g;
                    }
                }
                hold(mask, cell_before, cell, u);
                active.copy_from_slice(cell);
                apply(op.activation, active);
                let rows = gates.chunks_exact(4 * u).zip(active.chunks_exact(u));
                for (hidden, (row, active)) in hidden.chunks_exact_mut(u).zip(rows) {
                    let values = row[3 * u..].iter().zip(active);
                    hidden
                        .iter_mut()
                        .zip(values)
                        .for_each(|(h, (o, a))| *h = o * a);
                }
                hold(mask, before, hidden, u);
            },
        );
    }

    fn backward(
        &self,
        piece: &mut Piece<'_>,
        parameters: &[&[f32]],
        k: usize,
        flow: &mut Flow<'_>,
    ) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 4 * m * u..][..4 * m * u];
        let (cells, active) = piece.extra.split_at_mut(op.steps * m * u);
        let step = Step {
            before: at_step(cells, k, m * u).0,
            active: &active[k * m * u..][..m * u],
            mask: Piece::masked(piece.mask, k, m),
            units: u,
        };
        vectorized(
            #[inline(always)]
            || match (op.recurrent_activation, op.activation) {
                (Gate::Sigmoid, Gate::Tanh) => step.back(gates, flow, SigmoidSlope, TanhSlope),
                (recurrent, other) => step.back(gates, flow, recurrent, other),
            },
        );
        if k > 0 {
            let kernel = View::new(parameters[1], u, 4 * u);
            gemm(
                flow.hidden,
                true,
                View::new(gates, m, 4 * u),
                kernel.transposed(),
            );
        }
    }

    fn weights(&self, piece: &mut Piece<'_>, recurrent: &mut [f32], bias: &mut [f32]) {
        recurrent_kernel(
            piece.hidden,
            piece.gates,
            piece.op.units,
            piece.samples,
            recurrent,
        );
        if !bias.is_empty() {
            sum_rows(piece.gates, bias);
        }
    }
}

/// What the way back through a step reads.
struct Step<'a> {
    /// c of the step before; empty in the first.
    before: &'a [f32],
    /// activation(c).
    active: &'a [f32],
    mask: &'a [f32],
    units: usize,
}

impl Step<'_> {
    /// dc += dh o activation'(c); do = dh activation(c), di = dc g, df = dc c', dg = dc i, each times the slope of its gate;
    /// dc' = dc f.
    #[inline(always)]
    fn back(&self, gates: &mut [f32], flow: &mut Flow<'_>, sigmoid: impl Slope, tanh: impl Slope) {
        let u = self.units;
        let flows = flow
            .hidden
            .chunks_exact_mut(u)
            .zip(flow.state.chunks_exact_mut(u));
        let rows = gates.chunks_exact_mut(4 * u).zip(flows);
        for (sample, (row, (hidden, state))) in rows.enumerate() {
            if self.mask.get(sample) == Some(&1.0) {
                row.fill(0.0);
                continue;
            }
            let (i, rest) = row.split_at_mut(u);
            let (f, rest) = rest.split_at_mut(u);
            let (g, o) = rest.split_at_mut(u);
            let (hidden, state, o) = (&mut hidden[..u], &mut state[..u], &mut o[..u]);
            let active = &self.active[sample * u..][..u];
            for j in 0..u {
                let (dh, a) = (hidden[j], active[j]);
                state[j] += dh * o[j] * tanh.at(a);
                o[j] = dh * a * sigmoid.at(o[j]);
                hidden[j] = 0.0;
            }
            match self.before.get(sample * u..(sample + 1) * u) {
                Some(before) => {
                    for j in 0..u {
                        let forgotten = f[j];
                        f[j] = state[j] * before[j] * sigmoid.at(forgotten);
                        let (input, new) = (i[j], g[j]);
                        i[j] = state[j] * new * sigmoid.at(input);
                        g[j] = state[j] * input * tanh.at(new);
                        state[j] *= forgotten;
                    }
                }
                None => {
                    for j in 0..u {
                        let (input, new) = (i[j], g[j]);
                        i[j] = state[j] * new * sigmoid.at(input);
                        g[j] = state[j] * input * tanh.at(new);
                    }
                    f.fill(0.0);
                }
            }
        }
    }
}
