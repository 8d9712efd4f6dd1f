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
pub(super) fn objective(pairs: &Pairs, values: &[f64], logs: &[f64], gradient: &mut [f64]) -> f64 {
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
        add(
            &mut weights[start(row)..start(row + 1)],
            factor,
            &levels.weights,
        );
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

#[cfg(test)]
mod tests {
    use super::super::kernel::matern;
    use super::super::tests::{axes, points};
    use super::*;
    use serde_json::json;

    #[test]
    fn levels_and_density_by_hand() {
        let axes = axes(&json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let layout = Layout::new(&axes);
        let features = [vec![0.2], vec![0.7]];
        let (y, scale, noise) = ([1.0, -2.0], 0.5f64, 0.01f64);
        // C = [a k; k a] with a = 1.01 and k the correlation at r = 1; C^-1 = [a -k; -k a] / (a^2 - k^2).
        let (a, k) = (1.0 + noise, matern(1.0));
        let determinant = a * a - k * k;
        // 1' C^-1 1 = 2 / (a + k) and 1' C^-1 y = (y1 + y2) / (a + k): b = (y1 + y2) / (2 + a + k).
        let mean = (y[0] + y[1]) / (2.0 + a + k);
        let r = [y[0] - mean, y[1] - mean];
        let weights = [
            (a * r[0] - k * r[1]) / determinant,
            (a * r[1] - k * r[0]) / determinant,
        ];
        let quadratic = r[0] * weights[0] + r[1] * weights[1] + mean * mean;
        // Exponents of v: 2/2 of y, 1/2 of b, 1.5 + 1 of the prior.
        let variance = (0.5 * quadratic + 1.5) / 4.0;
        let factor = Factor::cholesky(vec![a, k, a], 2, 1e-10);
        let found = levels(&factor, &y);
        assert!((found.mean - mean).abs() < 1e-12);
        assert!((found.variance - variance).abs() < 1e-12);
        assert!((found.weights[0] - weights[0]).abs() < 1e-12);
        assert!((found.weights[1] - weights[1]).abs() < 1e-12);
        let density = -0.5 * determinant.ln() - 4.0 * variance.ln() - 4.0;
        let prior = -noise / NOISE_MEAN - 0.5 * ((scale / SCALE).ln() / SCALE_DEVIATION).powi(2);
        let pairs = Pairs::new(&layout, &features);
        let value = objective(&pairs, &y, &[scale.ln(), noise.ln()], &mut [0.0; 2]);
        assert!((value + density + prior).abs() < 1e-12, "{value}");
    }

    #[test]
    fn the_gradient_is_the_differences_limit() {
        let axes = axes(&json!({
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "kind": {"type": "categorical", "vals": ["a", "b", "c"]},
            "y": {"type": "double", "minval": 0, "maxval": 1, "when": {"kind": ["a", "b"]}},
        }));
        let layout = Layout::new(&axes);
        let features: Vec<Vec<f64>> = points(&axes, 17).iter().map(|p| layout.embed(p)).collect();
        let values: Vec<f64> = (0..17)
            .map(|i| f64::from((i * 7) % 17) / 5.0 - 1.6)
            .collect();
        let pairs = Pairs::new(&layout, &features);
        for logs in [[-1.0, 0.5, -0.3, -3.0], [0.4, -1.0, -2.0, -9.0]] {
            let mut gradient = [0.0; 4];
            objective(&pairs, &values, &logs, &mut gradient);
            for at in 0..4 {
                let beside = |step: f64| {
                    let mut logs = logs;
                    logs[at] += step;
                    objective(&pairs, &values, &logs, &mut [0.0; 4])
                };
                let slope = (beside(1e-5) - beside(-1e-5)) / 2e-5;
                assert!(
                    (slope - gradient[at]).abs() < 1e-5 * (1.0 + slope.abs()),
                    "{at}: {slope} {}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn a_fit_tells_axes_apart() {
        let axes = axes(&json!({
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "y": {"type": "double", "minval": 0, "maxval": 1},
        }));
        let layout = Layout::new(&axes);
        let points = points(&axes, 40);
        let features: Vec<Vec<f64>> = points.iter().map(|p| layout.embed(p)).collect();
        let values: Vec<f64> = points.iter().map(|p| 1.4 * (8.0 * p[0]).sin()).collect();
        let pairs = Pairs::new(&layout, &features);
        let (hyper, density) = fit(&pairs, &values, &Hyper::default_for(2), 50);
        assert!(hyper.log_scales[0] + 1.0 < hyper.log_scales[1], "{hyper:?}");
        assert!(hyper.noise() < 1e-4, "{hyper:?}");
        let mut logs = hyper.log_scales.clone();
        logs.push(hyper.log_noise);
        let again = objective(&pairs, &values, &logs, &mut [0.0; 3]);
        assert!((again + density).abs() < 1e-9);
    }
}
