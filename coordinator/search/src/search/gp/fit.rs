//! Hyperparameters of the model by their greatest posterior density, given warped costs.
//!
//! Costs y at n points are normal with mean b 1 and covariance v C, C = R + eta I with R the correlations and
//! eta the noise's share. The mean b (a priori normal with variance v) and the variance v (a priori inverse
//! gamma) are at their best values for the others in closed form; the length scales and eta follow the
//! gradient of the logarithm of the posterior density.

use super::kernel::{Layout, matern_slope, wendland, wendland_slope};
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

/// Bounds and prior of the radii of the parts for single axes. A radius is about four length scales.
const RADII: (f64, f64) = (0.1, 100.0);
const RADIUS: f64 = 1.5;
const RADIUS_DEVIATION: f64 = 0.8;

/// The share of those parts, as its logit: bounds, and a normal prior around an eighth.
const LOGITS: (f64, f64) = (-7.0, 7.0);
const LOGIT: f64 = -2.0;
const LOGIT_DEVIATION: f64 = 1.4;

/// The noise's share is exponential a priori with this mean.
const NOISE_MEAN: f64 = 0.02;

/// Shape and rate of the variance's inverse gamma prior: costs are standardized.
const VARIANCE_PRIOR: f64 = 1.5;

/// What the covariance is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hyper {
    /// Logarithms of the length scales and of the radii, one of each for each dimension; the logit of the
    /// single axes' share; the logarithm of the noise's share.
    logs: Vec<f64>,
}

impl Hyper {
    #[cfg(test)]
    pub(super) fn of(logs: Vec<f64>) -> Self {
        Self { logs }
    }

    /// The prior's centre, with little noise.
    pub(super) fn default_for(dimensions: usize) -> Self {
        let mut logs = prior_means(dimensions);
        logs.push(libm::log(1e-4));
        Self { logs }
    }

    /// The same where most of the correlation is that of single axes: another hill of the density.
    pub(super) fn single_for(dimensions: usize) -> Self {
        let mut hyper = Self::default_for(dimensions);
        hyper.logs[2 * dimensions] = 2.0;
        hyper
    }

    /// With the same length scale for all axes, and the same radius: the geometric means. Points that crowd
    /// on one hill can make an axis look useless that matters on another.
    pub(super) fn doubted(&self) -> Self {
        let (mut hyper, dimensions) = (self.clone(), self.dimensions());
        for part in [0..dimensions, dimensions..2 * dimensions] {
            let logs = &mut hyper.logs[part];
            let mean = logs.iter().sum::<f64>() / dimensions.max(1) as f64;
            logs.fill(mean);
        }
        hyper
    }

    pub(super) fn dimensions(&self) -> usize {
        self.logs.len().saturating_sub(2) / 2
    }

    pub(super) fn scales(&self) -> impl Iterator<Item = f64> {
        let logs = self.logs[..self.dimensions()].iter();
        logs.map(|log| libm::exp(*log))
    }

    pub(super) fn radii(&self) -> impl Iterator<Item = f64> {
        let logs = self.logs[self.dimensions()..2 * self.dimensions()].iter();
        logs.map(|log| libm::exp(*log))
    }

    /// What single axes have of the correlation.
    pub(super) fn share(&self) -> f64 {
        1.0 / (1.0 + libm::exp(-self.logs[2 * self.dimensions()]))
    }

    pub(super) fn noise(&self) -> f64 {
        libm::exp(self.logs[2 * self.dimensions() + 1])
    }
}

/// The prior's centre of all but the noise.
fn prior_means(dimensions: usize) -> Vec<f64> {
    let scale = libm::log(SCALE) + 0.5 * libm::log(dimensions.max(1) as f64);
    let mut means = vec![scale; dimensions];
    means.resize(2 * dimensions, libm::log(RADIUS));
    means.push(LOGIT);
    means
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

/// Correlations of all pairs by their parts, and what derivatives need.
struct Parts {
    whole: Vec<f64>,
    whole_slopes: Vec<f64>,
    /// The mean of the single axes'.
    single: Vec<f64>,
}

impl Parts {
    fn new(pairs: &Pairs, hyper: &Hyper) -> Self {
        let size = start(pairs.rows);
        let (mut squared, mut single) = (vec![0.0; size], vec![0.0; size]);
        let weight = 1.0 / hyper.dimensions().max(1) as f64;
        for ((along, scale), radius) in pairs.along.iter().zip(hyper.scales()).zip(hyper.radii()) {
            add(&mut squared, 1.0 / (scale * scale), along);
            let inverse = 1.0 / (radius * radius);
            for (sum, squared) in single.iter_mut().zip(along) {
                *sum += weight * wendland(squared * inverse);
            }
        }
        let (whole, whole_slopes) = squared.iter().map(|s| matern_slope(*s)).unzip();
        Self {
            whole,
            whole_slopes,
            single,
        }
    }
}

/// Minus the logarithm of the posterior density of hyperparameters, and its gradient by their logarithms.
pub(super) fn objective(pairs: &Pairs, values: &[f64], hyper: &Hyper, gradient: &mut [f64]) -> f64 {
    let (share, noise) = (hyper.share(), hyper.noise());
    let parts = Parts::new(pairs, hyper);
    let both = parts.whole.iter().zip(&parts.single);
    let mut lower: Vec<f64> = both.map(|(w, s)| (1.0 - share) * w + share * s).collect();
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
        let row = &mut weights[start(row)..start(row + 1)];
        add(row, factor, &levels.weights);
    }
    gradient[2 * hyper.dimensions() + 1] = 0.5 * noise * (trace - squares);
    slopes(pairs, hyper, &parts, &weights, gradient);
    value + prior(hyper, gradient)
}

/// The gradient by all but the noise. Each pair stands for two entries of dC, whose diagonal is 0.
fn slopes(pairs: &Pairs, hyper: &Hyper, parts: &Parts, weights: &[f64], gradient: &mut [f64]) {
    let (dimensions, share) = (hyper.dimensions(), hyper.share());
    gradient[2 * dimensions] =
        share * (1.0 - share) * (dot(weights, &parts.single) - dot(weights, &parts.whole));
    let slopes = weights.iter().zip(&parts.whole_slopes);
    let whole: Vec<f64> = slopes.map(|(weight, slope)| weight * slope).collect();
    let mut single = vec![0.0; weights.len()];
    for (at, (scale, radius)) in hyper.scales().zip(hyper.radii()).enumerate() {
        // d^2 / l^2 changes by -2 d^2 / l^2 with the logarithm of l.
        let along = &pairs.along[at];
        gradient[at] = -2.0 * (1.0 - share) / (scale * scale) * dot(&whole, along);
        let inverse = 1.0 / (radius * radius);
        for (slope, squared) in single.iter_mut().zip(along) {
            let squared = squared * inverse;
            *slope = squared * wendland_slope(squared);
        }
        gradient[dimensions + at] = -2.0 * share / dimensions as f64 * dot(weights, &single);
    }
}

/// Minus the logarithm of the prior density; adds to the gradient.
fn prior(hyper: &Hyper, gradient: &mut [f64]) -> f64 {
    let dimensions = hyper.dimensions();
    let noise = hyper.noise() / NOISE_MEAN;
    gradient[2 * dimensions + 1] += noise;
    let mut value = noise;
    for (at, mean) in prior_means(dimensions).into_iter().enumerate() {
        let deviation = match at / dimensions.max(1) {
            0 => SCALE_DEVIATION,
            1 => RADIUS_DEVIATION,
            _ => LOGIT_DEVIATION,
        };
        let from = (hyper.logs[at] - mean) / deviation;
        value += 0.5 * from * from;
        gradient[at] += from / deviation;
    }
    value
}

/// Follows the gradient from some hyperparameters; with the logarithm of the density that it ends at.
pub(super) fn fit(pairs: &Pairs, values: &[f64], from: &Hyper, steps: usize) -> (Hyper, f64) {
    let dimensions = from.dimensions();
    let logs = |(low, high): (f64, f64)| (libm::log(low), libm::log(high));
    let mut bounds = vec![logs(SCALES); dimensions];
    bounds.resize(2 * dimensions, logs(RADII));
    bounds.push(LOGITS);
    bounds.push((libm::log(LEAST_NOISE), libm::log(MOST_NOISE)));
    let stop = Stop {
        steps,
        decrease: 1e-3,
        gradient: 1e-2,
    };
    let mut found = from.clone();
    let mut at = from.clone();
    let value = minimize(&mut found.logs, &bounds, stop, |logs, gradient| {
        at.logs.copy_from_slice(logs);
        objective(pairs, values, &at, gradient)
    });
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
        // No share of single axes: their prior's terms besides those of the length scale and the noise.
        let logit = -100.0;
        let prior = -noise / NOISE_MEAN
            - 0.5 * ((scale / SCALE).ln() / SCALE_DEVIATION).powi(2)
            - 0.5 * ((logit - LOGIT) / LOGIT_DEVIATION).powi(2);
        let pairs = Pairs::new(&layout, &features);
        let logs = vec![scale.ln(), RADIUS.ln(), logit, noise.ln()];
        let value = objective(&pairs, &y, &Hyper { logs }, &mut [0.0; 4]);
        assert!((value + density + prior).abs() < 1e-10, "{value}");
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
        for logs in [
            vec![-1.0, 0.5, -0.3, 0.4, 0.9, -0.3, 0.5, -3.0],
            vec![0.4, -1.0, -2.0, -0.7, 0.8, 2.0, -1.0, -9.0],
        ] {
            let mut gradient = [0.0; 8];
            objective(
                &pairs,
                &values,
                &Hyper { logs: logs.clone() },
                &mut gradient,
            );
            for at in 0..8 {
                let beside = |step: f64| {
                    let mut logs = logs.clone();
                    logs[at] += step;
                    objective(&pairs, &values, &Hyper { logs }, &mut [0.0; 8])
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
    fn doubt_makes_length_scales_equal() {
        let hyper = Hyper {
            logs: vec![-1.0, 2.0, 0.5, 0.7, 0.1, -3.0],
        };
        assert_eq!(hyper.doubted().logs, [0.5, 0.5, 0.6, 0.6, 0.1, -3.0]);
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
        // The costs follow one axis: its part alone explains them.
        let radii: Vec<f64> = hyper.radii().collect();
        assert!(5.0 * radii[0] < radii[1], "{hyper:?}");
        assert!(hyper.share() > 0.5, "{hyper:?}");
        assert!(hyper.noise() < 1e-4, "{hyper:?}");
        let again = objective(&pairs, &values, &hyper, &mut [0.0; 6]);
        assert!((again + density).abs() < 1e-9);
    }
}
