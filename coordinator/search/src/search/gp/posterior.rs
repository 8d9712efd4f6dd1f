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
            posterior.squared(&scaled, |squared| lower.extend(squared.iter().map(|s| matern(*s))));
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
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
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
        self.squared(scaled, |squared| found.extend(squared.iter().map(|s| matern(*s))));
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
