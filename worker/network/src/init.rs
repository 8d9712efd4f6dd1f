//! Initial values of kernels, drawn from a counter-based key.

use rayon::prelude::*;
use trainyard_common::network::{Initial, Initializer, Parameter};
use trainyard_common::rng::Key;

/// Elements drawn by one task.
const BLOCK: usize = 1 << 14;
/// Limit of Keras's `uniform`.
const UNIFORM: f64 = 0.05;

/// How a parameter begins, drawn from `key` by its name.
pub(crate) fn initial(parameter: &Parameter, key: Key) -> Vec<f32> {
    match parameter.initial {
        Initial::Constant(value) => vec![value; parameter.len()],
        Initial::Ones { start, len } => {
            let mut values = vec![0.0; parameter.len()];
            values[start..start + len].fill(1.0);
            values
        }
        Initial::Drawn {
            initializer: Initializer::Orthogonal,
            ..
        } => orthogonal(key.named(&parameter.name), &parameter.shape),
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
        Initializer::Uniform => uniform(key, len, UNIFORM * UNIFORM),
        // Of a matrix with one row, whose length is 1.
        Initializer::Orthogonal => orthogonal(key, &[1, len]),
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

/// A matrix [first dimension, all others] whose rows, or columns if there are more rows, are orthonormal: normal draws,
/// made orthogonal by Gram and Schmidt, twice, since once leaves some of what rounding added.
fn orthogonal(key: Key, shape: &[usize]) -> Vec<f32> {
    let (rows, len) = (shape[0], shape.iter().product::<usize>());
    let columns = len / rows;
    let (count, width) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    for at in 0..count {
        let mut vector: Vec<f64> = (0..width)
            .map(|j| key.normal((at * width + j) as u64))
            .collect();
        for _ in 0..2 {
            for other in &vectors {
                let along = dot(&vector, other);
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(v, o)| *v -= along * o);
            }
            let norm = dot(&vector, &vector).sqrt();
            vector.iter_mut().for_each(|v| *v /= norm);
        }
        vectors.push(vector);
    }
    let value = |row: usize, column: usize| match rows <= columns {
        true => vectors[row][column],
        false => vectors[column][row],
    };
    (0..len)
        .map(|i| value(i / columns, i % columns) as f32)
        .collect()
}

/// In a fixed order that vectors can take.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (sum, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    lanes.iter().sum()
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
            (Initializer::Uniform, 0.05 * 0.05 / 3.0),
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

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (rows, columns) in [(5, 20), (20, 5), (7, 7), (1, 4), (64, 256)] {
            let values = orthogonal(Key::new(3), &[rows, columns]);
            let at = |i: usize, j: usize| f64::from(values[i * columns + j]);
            let few = rows.min(columns);
            for i in 0..few {
                for j in 0..few {
                    let product: f64 = match rows <= columns {
                        true => (0..columns).map(|k| at(i, k) * at(j, k)).sum(),
                        false => (0..rows).map(|k| at(k, i) * at(k, j)).sum(),
                    };
                    let expected = f64::from(u8::from(i == j));
                    assert!(
                        (product - expected).abs() < 1e-6,
                        "{rows} {columns}: {product}"
                    );
                }
            }
        }
    }
}
