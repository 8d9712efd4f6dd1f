//! The model given its hyperparameters: means, deviations and expected improvements of points.
//!
//! Rows are first the points with costs, then those under way. The latter narrow the deviation as if their
//! costs had come out at the mean (Ginsbourger, Le Riche and Carraro 2010, "Kriging is well-suited to
//! parallelize optimization": the kriging believer), which leaves the mean as it is.

use super::fit::{Hyper, LEAST_NOISE, Levels, levels};
use super::improvement::log_improvement;
use super::kernel::{Layout, Shape, matern, matern_slope};
use super::linalg::{Factor, LANES, dot, start};

#[derive(Debug, Clone)]
pub(super) struct Posterior {
    layout: Layout,
    /// Inverse length scales, one for each dimension.
    inverse: Vec<f64>,
    noise: f64,
    /// Features of all rows: one column for each, scaled (but for categories).
    columns: Vec<Vec<f64>>,
    factor: Factor,
    mean: f64,
    variance: f64,
    /// C^-1 (y - mean) of the rows with costs.
    weights: Vec<f64>,
    /// The least mean of all rows.
    best: f64,
}

impl Posterior {
    pub(super) fn new(layout: &Layout, hyper: &Hyper, features: &[Vec<f64>]) -> Self {
        let mut posterior = Self {
            layout: layout.clone(),
            inverse: hyper.log_scales.iter().map(|log| libm::exp(-log)).collect(),
            noise: hyper.noise().max(LEAST_NOISE),
            columns: vec![Vec::with_capacity(features.len()); layout.features],
            factor: Factor::default(),
            mean: 0.0,
            variance: 1.0,
            weights: Vec::new(),
            best: 0.0,
        };
        let mut lower = Vec::with_capacity(start(features.len()));
        for features in features {
            let scaled = posterior.scaled(features);
            posterior.squared(&scaled, |squared| {
                lower.extend(squared.iter().map(|s| matern(*s)))
            });
            lower.push(1.0 + posterior.noise);
            posterior.extend_columns(&scaled);
        }
        posterior.factor = Factor::cholesky(lower, features.len(), posterior.noise);
        posterior
    }

    pub(super) fn rows(&self) -> usize {
        self.factor.rows()
    }

    /// One more row, of a point under way or one whose cost will be learnt.
    pub(super) fn push(&mut self, features: &[f64]) {
        let scaled = self.scaled(features);
        let mut row = self.correlations(&scaled);
        row.push(1.0 + self.noise);
        self.factor.append(&row, self.noise);
        self.extend_columns(&scaled);
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.factor.truncate(rows);
        self.columns
            .iter_mut()
            .for_each(|column| column.truncate(rows));
    }

    /// The costs of the first rows; what is behind them is under way.
    pub(super) fn learn(&mut self, values: &[f64]) {
        let Levels {
            mean,
            variance,
            weights,
            ..
        } = levels(&self.factor, values);
        (self.mean, self.variance, self.weights) = (mean, variance, weights);
        // The mean at a row is b + R w = y - eta w.
        let seen = values.iter().zip(&self.weights);
        let seen = seen.map(|(value, weight)| value - self.noise * weight);
        self.best = seen.fold(f64::INFINITY, f64::min);
        for row in values.len()..self.rows() {
            let scaled: Vec<f64> = self.columns.iter().map(|column| column[row]).collect();
            let correlations = self.correlations(&scaled);
            let mean = self.mean_from(&correlations);
            self.best = self.best.min(mean);
        }
    }

    /// Mean and standard deviation, without noise, in the unit of the warped costs.
    #[cfg(test)]
    pub(super) fn predict(&self, features: &[f64]) -> (f64, f64) {
        let mut solved = self.correlations(&self.scaled(features));
        let mean = self.mean_from(&solved);
        self.factor.forward(&mut solved);
        (mean, self.deviation(dot(&solved, &solved)))
    }

    /// The logarithm of each point's expected improvement on the least mean.
    pub(super) fn scores(&self, features: &[Vec<f64>]) -> Vec<f64> {
        let mut scores = Vec::with_capacity(features.len());
        let mut solved = vec![[0.0; LANES]; self.rows()];
        for chunk in features.chunks(LANES) {
            let mut means = [0.0; LANES];
            for (lane, features) in chunk.iter().enumerate() {
                let correlations = self.correlations(&self.scaled(features));
                means[lane] = self.mean_from(&correlations);
                for (lanes, correlation) in solved.iter_mut().zip(&correlations) {
                    lanes[lane] = *correlation;
                }
            }
            self.factor.forward_batch(&mut solved);
            let mut explained = [0.0; LANES];
            for lanes in &solved {
                for (sum, entry) in explained.iter_mut().zip(lanes) {
                    *sum += entry * entry;
                }
            }
            for (mean, explained) in means.iter().zip(&explained).take(chunk.len()) {
                scores.push(log_improvement(*mean, self.deviation(*explained), self.best).0);
            }
        }
        scores
    }

    /// The logarithm of a point's expected improvement, and its gradient by the coordinates of numbers:
    /// one entry for each dimension, 0 for categories. `features` is of that point.
    pub(super) fn slope(&self, features: &[f64], gradient: &mut [f64]) -> f64 {
        let scaled = self.scaled(features);
        let (mut correlations, mut slopes) = (Vec::new(), Vec::new());
        self.squared(&scaled, |squared| {
            (correlations, slopes) = squared.iter().map(|s| matern_slope(*s)).unzip();
        });
        let mean = self.mean_from(&correlations);
        let mut solved = correlations;
        self.factor.forward(&mut solved);
        let deviation = self.deviation(dot(&solved, &solved));
        let (value, by_mean, by_deviation) = log_improvement(mean, deviation, self.best);
        self.factor.backward(&mut solved);
        // d mean = sum of w_j dk_j; d deviation = -v / deviation * sum of (C^-1 k)_j dk_j.
        let share = by_deviation * self.variance / deviation;
        for (row, slope) in slopes.iter_mut().enumerate() {
            let weight = self.weights.get(row).copied().unwrap_or(0.0);
            *slope *= by_mean * weight - share * solved[row];
        }
        self.chain(features, &scaled, &slopes, gradient);
        value
    }

    /// From derivatives by the squared distances of all rows to those by coordinates.
    fn chain(&self, features: &[f64], scaled: &[f64], slopes: &[f64], gradient: &mut [f64]) {
        let total: f64 = slopes.iter().sum();
        let by_feature = |at: usize| 2.0 * (scaled[at] * total - dot(slopes, &self.columns[at]));
        let dimensions = self.layout.dimensions.iter().zip(&self.inverse);
        for ((dimension, inverse), slope) in dimensions.zip(gradient) {
            let at = dimension.feature;
            *slope = match dimension.shape {
                Shape::Overlap => 0.0,
                Shape::Line => inverse * by_feature(at),
                Shape::Arc => {
                    // The derivatives of cosine and sine are minus the sine and the cosine.
                    let (cosine, sine) = (features[at], features[at + 1]);
                    inverse * (cosine * by_feature(at + 1) - sine * by_feature(at))
                }
            };
        }
    }

    fn scaled(&self, features: &[f64]) -> Vec<f64> {
        let mut scaled = features.to_vec();
        for (dimension, inverse) in self.layout.dimensions.iter().zip(&self.inverse) {
            match dimension.shape {
                Shape::Overlap => {}
                Shape::Line => scaled[dimension.feature] *= inverse,
                Shape::Arc => {
                    scaled[dimension.feature] *= inverse;
                    scaled[dimension.feature + 1] *= inverse;
                }
            }
        }
        scaled
    }

    fn extend_columns(&mut self, scaled: &[f64]) {
        for (column, feature) in self.columns.iter_mut().zip(scaled) {
            column.push(*feature);
        }
    }

    /// Squared scaled distances to all rows.
    fn squared(&self, scaled: &[f64], mut then: impl FnMut(&[f64])) {
        let rows = self.columns.first().map_or(0, Vec::len);
        let mut squared = vec![0.0; rows];
        for (dimension, inverse) in self.layout.dimensions.iter().zip(&self.inverse) {
            let at = dimension.feature;
            match dimension.shape {
                Shape::Overlap => {
                    let weight = inverse * inverse;
                    for (sum, other) in squared.iter_mut().zip(&self.columns[at]) {
                        *sum += if *other == scaled[at] { 0.0 } else { weight };
                    }
                }
                Shape::Line => add_squares(&mut squared, scaled[at], &self.columns[at]),
                Shape::Arc => {
                    add_squares(&mut squared, scaled[at], &self.columns[at]);
                    add_squares(&mut squared, scaled[at + 1], &self.columns[at + 1]);
                }
            }
        }
        then(&squared);
    }

    fn correlations(&self, scaled: &[f64]) -> Vec<f64> {
        let mut found = Vec::with_capacity(self.rows() + 1);
        self.squared(scaled, |squared| {
            found.extend(squared.iter().map(|s| matern(*s)))
        });
        found
    }

    fn mean_from(&self, correlations: &[f64]) -> f64 {
        let seen = self.weights.len().min(correlations.len());
        self.mean + dot(&self.weights[..seen], &correlations[..seen])
    }

    /// With so much of the variance explained. Rounding leaves no less than the noise's floor.
    fn deviation(&self, explained: f64) -> f64 {
        (self.variance * (1.0 - explained).max(LEAST_NOISE * 1e-2)).sqrt()
    }
}

fn add_squares(sums: &mut [f64], place: f64, column: &[f64]) {
    for (sum, other) in sums.iter_mut().zip(column) {
        let apart = place - other;
        *sum += apart * apart;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{axes, points};
    use super::*;
    use serde_json::json;

    fn hyper(scales: &[f64], noise: f64) -> Hyper {
        Hyper {
            log_scales: scales.iter().map(|scale| scale.ln()).collect(),
            log_noise: noise.ln(),
        }
    }

    #[test]
    fn two_points_by_hand() {
        let axes = axes(&json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let layout = Layout::new(&axes);
        let mut posterior = Posterior::new(&layout, &hyper(&[0.5], 0.01), &[vec![0.2], vec![0.7]]);
        posterior.learn(&[1.0, -2.0]);
        // At 0.45 both points are half a length scale away: k = (c, c), c = matern(0.25).
        // C^-1 k = c / (a + k) (1, 1): the mean is b + c (r1 + r2) / (a + k), the explained share
        // 2 c^2 / (a + k).
        let (a, k, c) = (1.01, matern(1.0), matern(0.25));
        let b = -1.0 / (2.0 + a + k);
        let mean = b + c * (-1.0 - 2.0 * b) / (a + k);
        let r = [1.0 - b, -2.0 - b];
        let determinant = a * a - k * k;
        let quadratic = (a * (r[0] * r[0] + r[1] * r[1]) - 2.0 * k * r[0] * r[1]) / determinant;
        let variance = (0.5 * (quadratic + b * b) + 1.5) / 4.0;
        let deviation = (variance * (1.0 - 2.0 * c * c / (a + k))).sqrt();
        let found = posterior.predict(&[0.45]);
        assert!((found.0 - mean).abs() < 1e-12, "{found:?} {mean}");
        assert!((found.1 - deviation).abs() < 1e-12, "{found:?} {deviation}");
        // The incumbent is the mean at 0.7, above the noisy cost there.
        assert!((posterior.best - posterior.predict(&[0.7]).0).abs() < 1e-12);
        assert!(posterior.best > -2.0);
        let score = posterior.scores(&[vec![0.45]])[0];
        let expected = log_improvement(mean, deviation, posterior.best).0;
        assert!((score - expected).abs() < 1e-12);
    }

    #[test]
    fn points_under_way_narrow_the_deviation_and_leave_the_mean() {
        let axes = axes(&json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let layout = Layout::new(&axes);
        let rows = [vec![0.1], vec![0.5]];
        let mut posterior = Posterior::new(&layout, &hyper(&[0.3], 1e-6), &rows);
        posterior.learn(&[0.5, -0.5]);
        let before = posterior.predict(&[0.8]);
        posterior.push(&[0.75]);
        posterior.learn(&[0.5, -0.5]);
        let after = posterior.predict(&[0.8]);
        assert!((before.0 - after.0).abs() < 1e-12);
        assert!(after.1 < 0.3 * before.1, "{before:?} {after:?}");
        // And as if made at once.
        let all = [vec![0.1], vec![0.5], vec![0.75]];
        let mut whole = Posterior::new(&layout, &hyper(&[0.3], 1e-6), &all);
        whole.learn(&[0.5, -0.5]);
        assert_eq!(whole.predict(&[0.8]), after);
        posterior.truncate(2);
        posterior.learn(&[0.5, -0.5]);
        assert_eq!(posterior.predict(&[0.8]), before);
    }

    #[test]
    fn the_gradient_is_the_differences_limit() {
        let axes = axes(&json!({
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "kind": {"type": "categorical", "vals": ["a", "b"]},
            "y": {"type": "double", "minval": 0, "maxval": 1, "when": {"kind": "a"}},
        }));
        let layout = Layout::new(&axes);
        let features: Vec<Vec<f64>> = points(&axes, 20).iter().map(|p| layout.embed(p)).collect();
        let values: Vec<f64> = (0..18)
            .map(|i| f64::from((i * 7) % 18) / 5.0 - 1.7)
            .collect();
        let mut posterior = Posterior::new(&layout, &hyper(&[0.4, 1.5, 0.7], 1e-3), &features);
        posterior.learn(&values);
        for place in [0.05, 0.33, 0.81] {
            let mut point = vec![place, 0.25, 1.0 - place];
            let mut gradient = [0.0; 3];
            let value = posterior.slope(&layout.embed(&point), &mut gradient);
            let score = posterior.scores(&[layout.embed(&point)])[0];
            assert!((value - score).abs() < 1e-9 * value.abs());
            assert_eq!(gradient[1], 0.0);
            for at in [0, 2] {
                let mut beside = |step: f64| {
                    point[at] += step;
                    let value = posterior.scores(&[layout.embed(&point)])[0];
                    point[at] -= step;
                    value
                };
                let slope = (beside(1e-6) - beside(-1e-6)) / 2e-6;
                assert!(
                    (slope - gradient[at]).abs() < 1e-4 * (1.0 + slope.abs()),
                    "{at}: {slope} {}",
                    gradient[at]
                );
            }
        }
    }
}
