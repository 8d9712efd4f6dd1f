//! Attention of several heads (Vaswani et al. 2017): the weights of the keys, and the values by them.
//!
//! A task is a sample, with all its heads.

use rayon::prelude::*;
use trainyard_common::network;

use super::{At, Kept, Kernel, Known, parts};
use crate::gemm::{View, gemm, gemm_strided};
use crate::math;
use crate::simd::vectorized;

/// Independent partial sums of a reduction: fixes its order and lets it use wide vectors.
const LANES: usize = 8;

/// weights = softmax(Q K^T / sqrt(dimensions)), over the keys.
#[derive(Debug)]
pub(super) struct Scores(pub(super) Heads);

/// output = weights V.
#[derive(Debug)]
pub(super) struct Weighted(pub(super) Heads);

#[derive(Debug)]
pub(super) struct Heads(network::Attention);

impl std::ops::Deref for Heads {
    type Target = network::Attention;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Heads {
    pub(super) fn new(op: &network::Attention) -> Self {
        Self(op.clone())
    }

    /// Distance of steps among queries, keys, values.
    fn width(&self) -> usize {
        self.heads * self.dimensions
    }

    /// Weights of one head.
    fn area(&self) -> usize {
        self.queries * self.keys
    }

    /// One head's part of so many steps.
    fn of<'a>(&self, values: &'a [f32], head: usize, steps: usize) -> View<'a> {
        let start = head * self.dimensions;
        View::strided(&values[start..], steps, self.dimensions, self.width())
    }

    /// The same, to be written.
    fn write(&self, values: &mut [f32], head: usize, lhs: View<'_>, rhs: View<'_>) {
        let start = head * self.dimensions;
        gemm_strided(&mut values[start..], self.width(), false, lhs, rhs);
    }

    /// Keys that a query sees.
    fn seen(&self, query: usize) -> usize {
        match self.causal {
            true => self.keys.min(query + 1),
            false => self.keys,
        }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.dimensions as f64).sqrt()) as f32
    }
}

impl Kernel for Scores {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let of = &self.0;
        let (queries, keys) = (of.queries, of.keys);
        output
            .par_chunks_mut(of.heads * of.area())
            .zip(inputs[0].par_chunks(queries * of.width()))
            .zip(inputs[1].par_chunks(keys * of.width()))
            .for_each(|((output, query), key)| {
                for (head, weights) in output.chunks_exact_mut(of.area()).enumerate() {
                    let key = of.of(key, head, keys);
                    gemm(
                        weights,
                        false,
                        of.of(query, head, queries),
                        key.transposed(),
                    );
                }
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, weights) in output.chunks_exact_mut(keys).enumerate() {
                            let (seen, hidden) = weights.split_at_mut(of.seen(row % queries));
                            softmax(seen, of.scale());
                            hidden.fill(0.0);
                        }
                    },
                );
            });
    }

    /// dS = P (dP - sum(dP P)) / sqrt(dimensions), in the place of dP; dQ = dS K, dK = dS^T Q.
    fn backward(
        &self,
        _: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        let of = &self.0;
        let (queries, keys) = (of.queries, of.keys);
        let samples = gradient.len() / (of.heads * of.area());
        let (first, second) = targets.split_at_mut(1);
        let mut to_queries = parts(first[0].as_deref_mut(), queries * of.width(), samples);
        let mut to_keys = parts(second[0].as_deref_mut(), keys * of.width(), samples);
        gradient
            .par_chunks_mut(of.heads * of.area())
            .zip(known.output.par_chunks(of.heads * of.area()))
            .zip(known.inputs[0].par_chunks(queries * of.width()))
            .zip(known.inputs[1].par_chunks(keys * of.width()))
            .zip(to_queries.par_iter_mut().zip(&mut to_keys))
            .for_each(
                |((((gradient, weights), query), key), (to_query, to_key))| {
                    vectorized(
                        #[inline(always)]
                        || {
                            let rows = gradient.chunks_exact_mut(keys);
                            for (gradient, weights) in rows.zip(weights.chunks_exact(keys)) {
                                softmax_backward(gradient, weights, of.scale());
                            }
                        },
                    );
                    for (head, gradient) in gradient.chunks_exact(of.area()).enumerate() {
                        let gradient = View::new(gradient, queries, keys);
                        if let Some(to) = to_query {
                            of.write(to, head, gradient, of.of(key, head, keys));
                        }
                        if let Some(to) = to_key {
                            let query = of.of(query, head, queries);
                            of.write(to, head, gradient.transposed(), query);
                        }
                    }
                },
            );
    }
}

impl Kernel for Weighted {
    fn forward(&self, _: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        let of = &self.0;
        output
            .par_chunks_mut(of.queries * of.width())
            .zip(inputs[0].par_chunks(of.heads * of.area()))
            .zip(inputs[1].par_chunks(of.keys * of.width()))
            .for_each(|((output, weights), value)| {
                for (head, weights) in weights.chunks_exact(of.area()).enumerate() {
                    let weights = View::new(weights, of.queries, of.keys);
                    of.write(output, head, weights, of.of(value, head, of.keys));
                }
            });
    }

    /// dP = dO V^T, dV = P^T dO.
    fn backward(
        &self,
        _: &At<'_>,
        known: &Known<'_>,
        gradient: &mut [f32],
        targets: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        let of = &self.0;
        let samples = gradient.len() / (of.queries * of.width());
        let (first, second) = targets.split_at_mut(1);
        let mut to_weights = parts(first[0].as_deref_mut(), of.heads * of.area(), samples);
        let mut to_values = parts(second[0].as_deref_mut(), of.keys * of.width(), samples);
        gradient
            .par_chunks(of.queries * of.width())
            .zip(known.inputs[0].par_chunks(of.heads * of.area()))
            .zip(known.inputs[1].par_chunks(of.keys * of.width()))
            .zip(to_weights.par_iter_mut().zip(&mut to_values))
            .for_each(|(((gradient, weights), value), (to_weights, to_values))| {
                for (head, weights) in weights.chunks_exact(of.area()).enumerate() {
                    let gradient = of.of(gradient, head, of.queries);
                    if let Some(to) = to_weights {
                        let value = of.of(value, head, of.keys);
                        let to = &mut to[head * of.area()..][..of.area()];
                        gemm(to, false, gradient, value.transposed());
                    }
                    if let Some(to) = to_values {
                        let weights = View::new(weights, of.queries, of.keys);
                        of.write(to, head, weights.transposed(), gradient);
                    }
                }
            });
    }
}

/// Of the scaled values, shifted by their maximum.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut()
        .for_each(|value| *value = (*value - max) * scale);
    math::exp(row);
    let factor = (1.0 / sum_of(row, |value, _| f64::from(value), row)) as f32;
    row.iter_mut().for_each(|value| *value *= factor);
}

#[inline(always)]
fn softmax_backward(gradient: &mut [f32], weights: &[f32], scale: f32) {
    let dot = sum_of(gradient, |dy, y| f64::from(dy * y), weights) as f32;
    for (gradient, weight) in gradient.iter_mut().zip(weights) {
        *gradient = weight * (*gradient - dot) * scale;
    }
}

/// The sum of f(a, b), in a fixed order.
#[inline(always)]
fn sum_of(a: &[f32], f: impl Fn(f32, f32) -> f64, b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (sum, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *sum += f(a, b);
        }
    }
    lanes.iter().sum()
}
