//! Gated recurrent units (Cho et al. 2014), the gates in the order z, r, h.
//!
//! z, r = recurrent_activation(x W + h' U + b), h = z h' + (1 - z) n. The new state is n = activation(x W + b + r (h' U + c))
//! where the reset comes after the product, and activation(x W + b + (r h') U) where it comes before.

use trainyard_common::network::Gate;

use super::Cell;
use super::gates::{SigmoidSlope, Slope, TanhSlope, apply};
use super::piece::{Flow, Piece, at_step, fill, hold, sum_rows};
use super::simple::recurrent_kernel;
use crate::gemm::{View, gemm, gemm_strided};
use crate::simd::vectorized;

/// `extra` holds h' U + c of all steps, whose part of the new state is needed again; then gradients.
pub(super) struct After;

/// `extra` holds r h' of all steps.
pub(super) struct Before;

impl Cell for After {
    fn forward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 3 * m * u..][..3 * m * u];
        let recurrent = &mut piece.extra[k * 3 * m * u..][..3 * m * u];
        let (before, hidden) = at_step(piece.hidden, k, m * u);
        match parameters.get(2) {
            Some(bias) => fill(recurrent, &bias[3 * u..]),
            None => recurrent.fill(0.0),
        }
        if k > 0 {
            let kernel = View::new(parameters[1], u, 3 * u);
            gemm(recurrent, true, View::new(before, m, u), kernel);
        }
        vectorized(
            #[inline(always)]
            || {
                let rows = gates
                    .chunks_exact_mut(3 * u)
                    .zip(recurrent.chunks_exact(3 * u));
                for (row, recurrent) in rows {
                    let (zr, new) = row.split_at_mut(2 * u);
                    zr.iter_mut()
                        .zip(recurrent)
                        .for_each(|(zr, more)| *zr += more);
                    apply(op.recurrent_activation, zr);
                    let more = zr[u..].iter().zip(&recurrent[2 * u..]);
                    new.iter_mut()
                        .zip(more)
                        .for_each(|(n, (r, more))| *n += r * more);
                    apply(op.activation, new);
                }
                mix(gates, before, hidden, u);
            },
        );
        hold(Piece::masked(piece.mask, k, m), before, hidden, u);
    }

    fn backward(
        &self,
        piece: &mut Piece<'_>,
        parameters: &[&[f32]],
        k: usize,
        flow: &mut Flow<'_>,
    ) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 3 * m * u..][..3 * m * u];
        let recurrent = &mut piece.extra[k * 3 * m * u..][..3 * m * u];
        let before = at_step(piece.hidden, k, m * u).0;
        let mask = Piece::masked(piece.mask, k, m);
        vectorized(
            #[inline(always)]
            || {
                match (op.recurrent_activation, op.activation) {
                    (Gate::Sigmoid, Gate::Tanh) => {
                        unmix(mask, gates, before, flow.hidden, u, SigmoidSlope, TanhSlope);
                    }
                    (gate, other) => unmix(mask, gates, before, flow.hidden, u, gate, other),
                }
                // dr = dn (h' U + c), and dn r goes into the product.
                let rows = gates
                    .chunks_exact_mut(3 * u)
                    .zip(recurrent.chunks_exact_mut(3 * u));
                for (row, recurrent) in rows {
                    let (zr, new) = row.split_at_mut(2 * u);
                    let (z, r) = zr.split_at_mut(u);
                    let (to_zr, to_new) = recurrent.split_at_mut(2 * u);
                    to_zr[..u].copy_from_slice(z);
                    let values = r.iter_mut().zip(new.iter()).zip(to_new.iter_mut());
                    for ((r, new), to_new) in values {
                        let reset = *r;
                        *r = new * *to_new * op.recurrent_activation.at(reset);
                        *to_new = new * reset;
                    }
                    to_zr[u..].copy_from_slice(r);
                }
            },
        );
        if k > 0 {
            let kernel = View::new(parameters[1], u, 3 * u);
            gemm(
                flow.hidden,
                true,
                View::new(recurrent, m, 3 * u),
                kernel.transposed(),
            );
        }
    }

    fn weights(&self, piece: &mut Piece<'_>, recurrent: &mut [f32], bias: &mut [f32]) {
        recurrent_kernel(
            piece.hidden,
            piece.extra,
            piece.op.units,
            piece.samples,
            recurrent,
        );
        if !bias.is_empty() {
            let (input, state) = bias.split_at_mut(3 * piece.op.units);
            sum_rows(piece.gates, input);
            sum_rows(piece.extra, state);
        }
    }
}

impl Cell for Before {
    fn forward(&self, piece: &mut Piece<'_>, parameters: &[&[f32]], k: usize) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 3 * m * u..][..3 * m * u];
        let reset = &mut piece.extra[k * m * u..][..m * u];
        let (before, hidden) = at_step(piece.hidden, k, m * u);
        if k > 0 {
            let kernel = View::strided(parameters[1], u, 2 * u, 3 * u);
            gemm_strided(gates, 3 * u, true, View::new(before, m, u), kernel);
        }
        vectorized(
            #[inline(always)]
            || {
                let rows = gates.chunks_exact_mut(3 * u).zip(reset.chunks_exact_mut(u));
                for (sample, (row, reset)) in rows.enumerate() {
                    apply(op.recurrent_activation, &mut row[..2 * u]);
                    match before.get(sample * u..(sample + 1) * u) {
                        Some(before) => {
                            let values = row[u..2 * u].iter().zip(before);
                            reset
                                .iter_mut()
                                .zip(values)
                                .for_each(|(x, (r, h))| *x = r * h);
                        }
                        None => reset.fill(0.0),
                    }
                }
            },
        );
        if k > 0 {
            let kernel = View::strided(&parameters[1][2 * u..], u, u, 3 * u);
            let new = &mut gates[2 * u..];
            gemm_strided(new, 3 * u, true, View::new(reset, m, u), kernel);
        }
        vectorized(
            #[inline(always)]
            || {
                for row in gates.chunks_exact_mut(3 * u) {
                    apply(op.activation, &mut row[2 * u..]);
                }
                mix(gates, before, hidden, u);
            },
        );
        hold(Piece::masked(piece.mask, k, m), before, hidden, u);
    }

    fn backward(
        &self,
        piece: &mut Piece<'_>,
        parameters: &[&[f32]],
        k: usize,
        flow: &mut Flow<'_>,
    ) {
        let (m, u, op) = (piece.samples, piece.op.units, piece.op);
        let gates = &mut piece.gates[k * 3 * m * u..][..3 * m * u];
        let before = at_step(piece.hidden, k, m * u).0;
        let mask = Piece::masked(piece.mask, k, m);
        vectorized(
            #[inline(always)]
            || match (op.recurrent_activation, op.activation) {
                (Gate::Sigmoid, Gate::Tanh) => {
                    unmix(mask, gates, before, flow.hidden, u, SigmoidSlope, TanhSlope);
                }
                (gate, other) => unmix(mask, gates, before, flow.hidden, u, gate, other),
            },
        );
        if k == 0 {
            // Nothing was reset.
            for row in gates.chunks_exact_mut(3 * u) {
                row[u..2 * u].fill(0.0);
            }
            return;
        }
        let reset = &mut flow.scratch[..m * u];
        let kernel = View::strided(&parameters[1][2 * u..], u, u, 3 * u);
        let new = View::strided(&gates[2 * u..], m, u, 3 * u);
        gemm(reset, false, new, kernel.transposed());
        vectorized(
            #[inline(always)]
            || {
                let rows = gates.chunks_exact_mut(3 * u).zip(reset.chunks_exact(u));
                let flows = flow.hidden.chunks_exact_mut(u).zip(before.chunks_exact(u));
                for ((row, reset), (hidden, before)) in rows.zip(flows) {
                    let values = row[u..2 * u]
                        .iter_mut()
                        .zip(reset)
                        .zip(hidden.iter_mut().zip(before));
                    for ((r, reset), (hidden, before)) in values {
                        *hidden += reset * *r;
                        *r = reset * before * op.recurrent_activation.at(*r);
                    }
                }
            },
        );
        let kernel = View::strided(parameters[1], u, 2 * u, 3 * u);
        gemm(
            flow.hidden,
            true,
            View::strided(gates, m, 2 * u, 3 * u),
            kernel.transposed(),
        );
    }

    fn weights(&self, piece: &mut Piece<'_>, recurrent: &mut [f32], bias: &mut [f32]) {
        let (m, u) = (piece.samples, piece.op.units);
        let rows = (piece.op.steps - 1) * m;
        recurrent.fill(0.0);
        if rows > 0 {
            let gates = &piece.gates[m * 3 * u..];
            let before = View::new(piece.hidden, rows, u);
            let reset = View::new(&piece.extra[m * u..], rows, u);
            let of_gates = View::strided(gates, rows, 2 * u, 3 * u);
            let of_new = View::strided(&gates[2 * u..], rows, u, 3 * u);
            gemm_strided(recurrent, 3 * u, false, before.transposed(), of_gates);
            gemm_strided(
                &mut recurrent[2 * u..],
                3 * u,
                false,
                reset.transposed(),
                of_new,
            );
        }
        if !bias.is_empty() {
            sum_rows(piece.gates, bias);
        }
    }
}

/// h = z h' + (1 - z) n.
#[inline(always)]
fn mix(gates: &[f32], before: &[f32], hidden: &mut [f32], u: usize) {
    let rows = gates.chunks_exact(3 * u).zip(hidden.chunks_exact_mut(u));
    for (sample, (row, hidden)) in rows.enumerate() {
        let values = row[..u].iter().zip(&row[2 * u..]);
        match before.get(sample * u..(sample + 1) * u) {
            Some(before) => {
                for ((hidden, (z, n)), before) in hidden.iter_mut().zip(values).zip(before) {
                    *hidden = z * before + (1.0 - z) * n;
                }
            }
            None => hidden
                .iter_mut()
                .zip(values)
                .for_each(|(h, (z, n))| *h = (1.0 - z) * n),
        }
    }
}

/// dz and dn, with the slopes of their gates, in the place of z and n; dh' = dh z. A masked sample hands dh on as it is.
#[inline(always)]
fn unmix(
    mask: &[f32],
    gates: &mut [f32],
    before: &[f32],
    hidden: &mut [f32],
    u: usize,
    sigmoid: impl Slope,
    tanh: impl Slope,
) {
    let rows = gates
        .chunks_exact_mut(3 * u)
        .zip(hidden.chunks_exact_mut(u));
    for (sample, (row, hidden)) in rows.enumerate() {
        if mask.get(sample) == Some(&1.0) {
            row.fill(0.0);
            continue;
        }
        let before = before.get(sample * u..(sample + 1) * u);
        let (z, rest) = row.split_at_mut(u);
        let n = &mut rest[u..2 * u];
        for j in 0..u {
            let (dh, gate, new) = (hidden[j], z[j], n[j]);
            let old = before.map_or(0.0, |before| before[j]);
            z[j] = dh * (old - new) * sigmoid.at(gate);
            n[j] = dh * (1.0 - gate) * tanh.at(new);
            hidden[j] = dh * gate;
        }
    }
}
