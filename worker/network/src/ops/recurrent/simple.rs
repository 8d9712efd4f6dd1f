//! h = activation(x W + h' U + b).

use super::Cell;
use super::gates::{Slope, TanhSlope, apply};
use super::piece::{Flow, Piece, at_step, hold, sum_rows};
use crate::gemm::{View, gemm};
use crate::simd::vectorized;
use trainyard_common::network::Gate;

pub(super) struct Simple;

impl Cell for Simple {
    fn forward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize) {
        let (m, u) = (piece.samples, piece.op.units);
        let gates = &mut piece.gates[k * m * u..][..m * u];
        let (before, hidden) = at_step(piece.hidden, k, m * u);
        if k > 0 {
            let kernel = View::new(parameters[1], u, u);
            gemm(gates, true, View::new(before, m, u), kernel);
        }
        vectorized(
            #[inline(always)]
            || apply(piece.op.activation, gates),
        );
        hidden.copy_from_slice(gates);
        hold(Piece::masked(piece.mask, k, m), before, hidden, u);
    }

    fn backward(
        &self,
        piece: &mut Piece<'_>,
        parameters: &[&[f32]],
        k: usize,
        flow: &mut Flow<'_>,
    ) {
        let (m, u) = (piece.samples, piece.op.units);
        let gates = &mut piece.gates[k * m * u..][..m * u];
        let mask = Piece::masked(piece.mask, k, m);
        let activation = piece.op.activation;
        vectorized(
            #[inline(always)]
            || match activation {
                Gate::Tanh => differentiate(mask, gates, flow.hidden, u, TanhSlope),
                other => differentiate(mask, gates, flow.hidden, u, other),
            },
        );
        if k > 0 {
            let kernel = View::new(parameters[1], u, u);
            gemm(
                flow.hidden,
                true,
                View::new(gates, m, u),
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

/// The gates become dz; what is left of the hidden state's gradient goes past the step.
#[inline(always)]
fn differentiate(mask: &[f32], gates: &mut [f32], hidden: &mut [f32], u: usize, slope: impl Slope) {
    let rows = gates.chunks_exact_mut(u).zip(hidden.chunks_exact_mut(u));
    for (sample, (gates, hidden)) in rows.enumerate() {
        if mask.get(sample) == Some(&1.0) {
            gates.fill(0.0);
            continue;
        }
        for (gate, hidden) in gates.iter_mut().zip(hidden) {
            *gate = *hidden * slope.at(*gate);
            *hidden = 0.0;
        }
    }
}

/// The sum over steps of h'^T dz; the first step has no h'.
pub(super) fn recurrent_kernel(
    hidden: &[f32],
    gates: &[f32],
    units: usize,
    samples: usize,
    to: &mut [f32],
) {
    let rows = hidden.len() / units - samples;
    if rows == 0 {
        to.fill(0.0);
        return;
    }
    let width = to.len() / units;
    let before = View::new(hidden, rows, units);
    let gates = View::new(&gates[samples * width..], rows, width);
    gemm(to, false, before.transposed(), gates);
}
