//! Hyperparameters of the model by their greatest posterior density, given warped costs.
//!
//! Costs y at n points are normal with mean b 1 and covariance v C, C = R + eta I with R the correlations and
//! eta the noise's share. The mean b (a priori normal with variance v) and the variance v (a priori inverse
//! gamma) are at their best values for the others in closed form; the length scales and eta follow the
//! gradient of the logarithm of the posterior density.

use super::kernel::{Layout, matern_slope};
use super::lbfgs::{Stop, minimize};
use super::linalg::{Factor, add, dot, start};

/// Bounds of the noise's share of the variance. The least keeps the factor accurate; as a deviation it
/// is 1e-5 of the costs'.
pub(super) const LEAST_NOISE: f64 = 1e-10;
const MOST_NOISE: f64 = 1.0;

/// Bounds of the length scales: an axis of length 1 that the function crosses in a hundredth, or hardly uses.
const SCALES: (f64, f64) = (0.01, 100.0);

/// Length scales are log-normal a priori around SCALE sqrt(d) with this deviation of the logarithm: as in
/// Hvarfner, Hellsten and Nardi 2024 ("Vanilla Bayesian optimization performs great in high dimensions")
/// they grow with the dimension as the distances do.
const SCALE: f64 = 0.5;
const SCALE_DEVIATION: f64 = 1.2;

/// The noise's share is exponential a priori with this mean.
const NOISE_MEAN: f64 = 0.02;

/// Shape and rate of the variance's inverse gamma prior: costs are standardized.
const VARIANCE_PRIOR: f64 = 1.5;

/// What the covariance is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hyper {
    /// Logarithms of the length scales, one for each dimension.
    pub(super) log_scales: Vec<f64>,
    pub(super) log_noise: f64,
}

impl Hyper {
    /// The prior's centre, with little noise.
    pub(super) fn default_for(dimensions: usize) -> Self {
        Self {
            log_scales: vec![prior_mean(dimensions); dimensions],
            log_noise: libm::log(1e-4),
        }
    }

    pub(super) fn noise(&self) -> f64 {
        libm::exp(self.log_noise)
    }
}

fn prior_mean(dimensions: usize) -> f64 {
    libm::log(SCALE) + 0.5 * libm::log(dimensions.max(1) as f64)
}

/// Mean, variance and C^-1 (y - b) that go with a factor of C.
pub(super) struct Levels {
    pub(super) mean: f64,
    pub(super) variance: f64,
    pub(super) weights: Vec<f64>,
    /// (y - b)' C^-1 (y - b) + b^2.
    quadratic: f64,
}

/// The mean and the variance of greatest density. The factor may have more rows than there are values.
pub(super) fn levels(factor: &Factor, values: &[f64]) -> Levels {
    let solve = |mut x: Vec<f64>| {
        factor.forward(&mut x);
        x
    };
    let (ones, costs) = (solve(vec![1.0; values.len()]), solve(values.to_vec()));
    let mean = dot(&ones, &costs) / (dot(&ones, &ones) + 1.0);
    let mut weights = costs;
    add(&mut weights, -mean, &ones);
    let quadratic = dot(&weights, &weights) + mean * mean;
    factor.backward(&mut weights);
    let count = values.len() as f64 + 1.0;
    Levels {
        mean,
        variance: (0.5 * quadratic + VARIANCE_PRIOR) / (0.5 * count + VARIANCE_PRIOR + 1.0),
        weights,
        quadratic,
    }
}

/// The logarithm of the density of y, b and v given the rest, at the best b and v, without constants.
fn log_density(factor: &Factor, levels: &Levels) -> f64 {
    let count = factor.rows() as f64 + 1.0;
    let shape = 0.5 * count + VARIANCE_PRIOR + 1.0;
    -factor.half_log_det()
        - shape * libm::log(levels.variance)
        - (0.5 * levels.quadratic + VARIANCE_PRIOR) / levels.variance
}

/// Squared distances along each dimension of all pairs, in the order of a lower triangle with its diagonal.
pub(super) struct Pairs {
    rows: usize,
    along: Vec<Vec<f64>>,
}

impl Pairs {
    pub(super) fn new(layout: &Layout, features: &[Vec<f64>]) -> Self {
        let along = layout.dimensions.iter().map(|dimension| {
            let mut squared = Vec::with_capacity(start(features.len()));
            for (row, a) in features.iter().enumerate() {
                let others = features[..=row].iter();
                squared.extend(others.map(|b| Layout::squared(*dimension, a, b)));
            }
            squared
        });
        Self {
            rows: features.len(),
            along: along.collect(),
        }
    }
}

/// Minus the logarithm of the posterior density of [log scales..., log noise], and its gradient.
pub(super) fn objective(
    pairs: &Pairs,
    values: &[f64],
    logs: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let (log_scales, log_noise) = logs.split_at(logs.len() - 1);
    let inverse_squares: Vec<f64> = log_scales.iter().map(|log| libm::exp(-2.0 * log)).collect();
    let noise = libm::exp(log_noise[0]);
    let mut squared = vec![0.0; start(pairs.rows)];
    for (along, weight) in pairs.along.iter().zip(&inverse_squares) {
        add(&mut squared, *weight, along);
    }
    let (mut lower, mut slopes) = (squared, Vec::with_capacity(start(pairs.rows)));
    for entry in &mut lower {
        let (value, slope) = matern_slope(*entry);
        *entry = value;
        slopes.push(slope);
    }
    for row in 0..pairs.rows {
        lower[start(row) + row] += noise;
    }
    let factor = Factor::cholesky(lower, pairs.rows, noise);
    let levels = levels(&factor, values);
    let value = -log_density(&factor, &levels);
    // d value = 1/2 tr(C^-1 dC) - w' dC w / (2 v), w = C^-1 (y - b): b and v are at their best.
    let mut weights = factor.inverse();
    let trace: f64 = (0..pairs.rows).map(|row| weights[start(row) + row]).sum();
    let squares = dot(&levels.weights, &levels.weights) / levels.variance;
    for row in 0..pairs.rows {
        let factor = -levels.weights[row] / levels.variance;
        add(&mut weights[start(row)..start(row + 1)], factor, &levels.weights);
    }
    for (weight, slope) in weights.iter_mut().zip(&slopes) {
        *weight *= slope;
    }
    // Each pair stands for two entries of dC, and d r^2 = -2 s r_g^2 d log scale, s = 1 / scale^2.
    for (at, (along, inverse)) in pairs.along.iter().zip(&inverse_squares).enumerate() {
        gradient[at] = -2.0 * inverse * dot(&weights, along);
    }
    gradient[log_scales.len()] = 0.5 * noise * (trace - squares);
    value + prior(log_scales, noise, gradient)
}

/// Minus the logarithm of the prior density; adds to the gradient.
fn prior(log_scales: &[f64], noise: f64, gradient: &mut [f64]) -> f64 {
    let (mean, variance) = (
        prior_mean(log_scales.len()),
        SCALE_DEVIATION * SCALE_DEVIATION,
    );
    let mut value = noise / NOISE_MEAN;
    for (log, slope) in log_scales.iter().zip(gradient.iter_mut()) {
        value += 0.5 * (log - mean) * (log - mean) / variance;
        *slope += (log - mean) / variance;
    }
    gradient[log_scales.len()] += noise / NOISE_MEAN;
    value
}

/// Follows the gradient from some hyperparameters; with the logarithm of the density that it ends at.
pub(super) fn fit(pairs: &Pairs, values: &[f64], from: &Hyper, steps: usize) -> (Hyper, f64) {
    let scales = (libm::log(SCALES.0), libm::log(SCALES.1));
    let mut bounds = vec![scales; from.log_scales.len()];
    bounds.push((libm::log(LEAST_NOISE), libm::log(MOST_NOISE)));
    let mut logs = from.log_scales.clone();
    logs.push(from.log_noise);
    let stop = Stop {
        steps,
        decrease: 1e-3,
        gradient: 1e-2,
    };
    let value = minimize(&mut logs, &bounds, stop, |logs, gradient| {
        objective(pairs, values, logs, gradient)
    });
    let log_noise = logs.pop().unwrap_or(from.log_noise);
    let found = Hyper {
        log_scales: logs,
        log_noise,
    };
    (found, -value)
}
