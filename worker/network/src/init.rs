//! Initial values of kernels, drawn from a counter-based key.

use rayon::prelude::*;
use trainyard_common::network::{Initial, Initializer, Parameter};
use trainyard_common::rng::Key;

/// Elements drawn by one task.
const BLOCK: usize = 1 << 14;

/// How a parameter begins, drawn from `key` by its name.
pub(crate) fn initial(parameter: &Parameter, key: Key) -> Vec<f32> {
    match parameter.initial {
        Initial::Constant(value) => vec![value; parameter.len()],
        Initial::Drawn {
            initializer,
            fan_in,
            fan_out,
        } => {
            let key = key.named(&parameter.name);
            initialize(initializer, key, parameter.len(), fan_in, fan_out)
        }
    }
}

/// `len` values of a kernel with these fans; element i is a function of (key, i) alone.
///
/// Glorot and Bengio 2010, He et al. 2015; the normal forms are not truncated.
fn initialize(
    initializer: Initializer,
    key: Key,
    len: usize,
    fan_in: usize,
    fan_out: usize,
) -> Vec<f32> {
    let (fan_in, fan_out) = (fan_in as f64, fan_out as f64);
    match initializer {
        Initializer::GlorotUniform => uniform(key, len, 6.0 / (fan_in + fan_out)),
        Initializer::GlorotNormal => normal(key, len, 2.0 / (fan_in + fan_out)),
        Initializer::HeUniform => uniform(key, len, 6.0 / fan_in),
        Initializer::HeNormal => normal(key, len, 2.0 / fan_in),
        Initializer::Zeros => vec![0.0; len],
    }
}

/// U(-l, l) with l squared given.
fn uniform(key: Key, len: usize, limit_squared: f64) -> Vec<f32> {
    let limit = limit_squared.sqrt();
    draw(len, |i| ((2.0 * key.unit(i) - 1.0) * limit) as f32)
}

fn normal(key: Key, len: usize, variance: f64) -> Vec<f32> {
    let deviation = variance.sqrt();
    draw(len, |i| (key.normal(i) * deviation) as f32)
}

fn draw(len: usize, at: impl Fn(u64) -> f32 + Sync) -> Vec<f32> {
    let mut values = vec![0.0; len];
    values
        .par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, values)| {
            for (i, value) in values.iter_mut().enumerate() {
                *value = at((block * BLOCK + i) as u64);
            }
        });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_papers() {
        let n = 200_000;
        let (fan_in, fan_out) = (30, 70);
        // Variance of U(-l, l) is l^2 / 3.
        for (initializer, variance) in [
            (Initializer::GlorotUniform, 2.0 / 100.0),
            (Initializer::GlorotNormal, 2.0 / 100.0),
            (Initializer::HeUniform, 2.0 / 30.0),
            (Initializer::HeNormal, 2.0 / 30.0),
            (Initializer::Zeros, 0.0),
        ] {
            let values = initialize(initializer, Key::new(5), n, fan_in, fan_out);
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n as f64;
            // Five standard errors of a mean of n values, and about as many of the variance.
            assert!(
                mean.abs() <= 5.0 * (variance / n as f64).sqrt(),
                "{initializer:?}"
            );
            assert!(
                (square - variance).abs() <= 0.02 * variance,
                "{initializer:?} {square}"
            );
        }
        let limit = (6.0f32 / 100.0).sqrt();
        assert!(
            initialize(Initializer::GlorotUniform, Key::new(5), n, fan_in, fan_out)
                .iter()
                .all(|v| v.abs() <= limit)
        );
    }
}
