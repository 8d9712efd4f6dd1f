//! The model given its hyperparameters: means, deviations and expected improvements of points.
//!
//! Rows are first the points with costs, then those under way. The latter narrow the deviation as if their
//! costs had come out at the mean (Ginsbourger, Le Riche and Carraro 2010, "Kriging is well-suited to
//! parallelize optimization": the kriging believer), which leaves the mean as it is.

use super::fit::{Hyper, LEAST_NOISE, Levels, levels};
use super::improvement::log_improvement;
use super::kernel::{Layout, Shape, matern, matern_slope, wendland, wendland_slope};
use super::linalg::{Factor, LANES, dot, start};

#[derive(Debug, Clone)]
pub(super) struct Posterior {
    layout: Layout,
    /// For each dimension: the inverse length scale, and its square's ratio to the radius' of the part for
    /// this axis alone.
    inverse: Vec<f64>,
    ratios: Vec<f64>,
    /// What all single axes and what each of them has of the correlation.
    share: f64,
    each: f64,
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
        let both = hyper.scales().zip(hyper.radii());
        let mut posterior = Self {
            layout: layout.clone(),
            inverse: hyper.scales().map(|scale| 1.0 / scale).collect(),
            ratios: both
                .map(|(scale, radius)| (scale / radius) * (scale / radius))
                .collect(),
            share: hyper.share(),
            each: hyper.share() / hyper.dimensions().max(1) as f64,
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
            lower.extend(posterior.correlations(&scaled));
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
        self.best = self.least_mean(values, |_| true);
    }

    /// Improvement is to be on the least mean of some of the rows, if there are such.
    pub(super) fn improve_on(&mut self, values: &[f64], rows: impl Fn(usize) -> bool) {
        let least = self.least_mean(values, rows);
        if least.is_finite() {
            self.best = least;
        }
    }

    /// Improvement is to be by more than this.
    pub(super) fn ask_for(&mut self, margin: f64) {
        self.best -= margin;
    }

    fn least_mean(&self, values: &[f64], wanted: impl Fn(usize) -> bool) -> f64 {
        let mean = |row: usize| match values.get(row).zip(self.weights.get(row)) {
            // The mean at a row is b + R w = y - eta w.
            Some((value, weight)) => value - self.noise * weight,
            None => {
                let scaled: Vec<f64> = self.columns.iter().map(|column| column[row]).collect();
                self.mean_from(&self.correlations(&scaled))
            }
        };
        let rows = (0..self.rows()).filter(|row| wanted(*row));
        rows.map(mean).fold(f64::INFINITY, f64::min)
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
        let (mut correlations, squared) = self.parts(&scaled);
        let mut slopes = Vec::with_capacity(squared.len());
        for (sum, squared) in correlations.iter_mut().zip(&squared) {
            let (whole, slope) = matern_slope(*squared);
            *sum += (1.0 - self.share) * whole;
            slopes.push((1.0 - self.share) * slope);
        }
        let mean = self.mean_from(&correlations);
        let mut solved = correlations;
        self.factor.forward(&mut solved);
        let deviation = self.deviation(dot(&solved, &solved));
        let (value, by_mean, by_deviation) = log_improvement(mean, deviation, self.best);
        self.factor.backward(&mut solved);
        // d mean = sum of w_j dk_j; d deviation = -v / deviation * sum of (C^-1 k)_j dk_j.
        let share = by_deviation * self.variance / deviation;
        let mut by_correlation = solved;
        for (row, solved) in by_correlation.iter_mut().enumerate() {
            let weight = self.weights.get(row).copied().unwrap_or(0.0);
            *solved = by_mean * weight - share * *solved;
        }
        self.chain(features, &scaled, &by_correlation, &slopes, gradient);
        value
    }

    /// From derivatives by the correlations with all rows to those by coordinates; `slopes` are of the
    /// correlations' common part by the squared distance.
    fn chain(
        &self,
        features: &[f64],
        scaled: &[f64],
        by_correlation: &[f64],
        slopes: &[f64],
        gradient: &mut [f64],
    ) {
        let (mut along, mut by_squared) = (Vec::new(), vec![0.0; slopes.len()]);
        for (at, (dimension, slope)) in self.layout.dimensions.iter().zip(gradient).enumerate() {
            *slope = 0.0;
            if dimension.shape == Shape::Overlap {
                continue;
            }
            self.along(at, scaled, &mut along);
            let (ratio, each) = (self.ratios[at], self.each * self.ratios[at]);
            for (row, found) in by_squared.iter_mut().enumerate() {
                let single = each * wendland_slope(along[row] * ratio);
                *found = by_correlation[row] * (slopes[row] + single);
            }
            let total: f64 = by_squared.iter().sum();
            let by_feature =
                |at: usize| 2.0 * (scaled[at] * total - dot(&by_squared, &self.columns[at]));
            let place = dimension.feature;
            let by_scaled = if dimension.shape == Shape::Line {
                by_feature(place)
            } else {
                // The derivatives of cosine and sine are minus the sine and the cosine.
                let (cosine, sine) = (features[place], features[place + 1]);
                cosine * by_feature(place + 1) - sine * by_feature(place)
            };
            *slope = self.inverse[at] * by_scaled;
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

    /// Squared scaled distances to all rows along one dimension.
    fn along(&self, at: usize, scaled: &[f64], found: &mut Vec<f64>) {
        found.clear();
        let (dimension, inverse) = (&self.layout.dimensions[at], self.inverse[at]);
        let place = dimension.feature;
        let (here, column) = (scaled[place], &self.columns[place]);
        match dimension.shape {
            Shape::Overlap => {
                let weight = inverse * inverse;
                let apart = |other: &f64| if *other == here { 0.0 } else { weight };
                found.extend(column.iter().map(apart));
            }
            Shape::Line => found.extend(column.iter().map(|other| (here - other) * (here - other))),
            Shape::Arc => {
                let (beside, second) = (scaled[place + 1], &self.columns[place + 1]);
                let both = column.iter().zip(second);
                found.extend(
                    both.map(|(x, y)| (here - x) * (here - x) + (beside - y) * (beside - y)),
                );
            }
        }
    }

    /// What single axes have of the correlations with all rows, and the squared scaled distances.
    fn parts(&self, scaled: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let rows = self.columns.first().map_or(0, Vec::len);
        let (mut single, mut squared) = (vec![0.0; rows], vec![0.0; rows]);
        let mut along = Vec::with_capacity(rows);
        for at in 0..self.layout.dimensions.len() {
            self.along(at, scaled, &mut along);
            let (ratio, each) = (self.ratios[at], self.each);
            let sums = squared.iter_mut().zip(&mut single).zip(&along);
            for ((squared, single), along) in sums {
                *squared += along;
                *single += each * wendland(along * ratio);
            }
        }
        (single, squared)
    }

    fn correlations(&self, scaled: &[f64]) -> Vec<f64> {
        let (mut single, squared) = self.parts(scaled);
        // Room for the diagonal's entry.
        single.reserve(1);
        for (sum, squared) in single.iter_mut().zip(&squared) {
            *sum += (1.0 - self.share) * matern(*squared);
        }
        single
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

#[cfg(test)]
mod tests {
    use super::super::tests::{axes, points};
    use super::*;
    use serde_json::json;

    /// With radii of one.
    fn hyper(scales: &[f64], share: f64, noise: f64) -> Hyper {
        let mut logs: Vec<f64> = scales.iter().map(|scale| scale.ln()).collect();
        logs.resize(2 * scales.len(), 0.0);
        logs.extend([(share / (1.0 - share)).ln(), noise.ln()]);
        Hyper::of(logs)
    }

    #[test]
    fn two_points_by_hand() {
        let axes = axes(&json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
        let layout = Layout::new(&axes);
        let mut posterior =
            Posterior::new(&layout, &hyper(&[0.5], 0.25, 0.01), &[vec![0.2], vec![0.7]]);
        posterior.learn(&[1.0, -2.0]);
        // At 0.45 both points are half a length scale and a quarter of a radius away: k = (c, c).
        // C^-1 k = c / (a + k) (1, 1): the mean is b + c (r1 + r2) / (a + k), the explained share
        // 2 c^2 / (a + k).
        let both = |whole: f64, single: f64| 0.75 * matern(whole) + 0.25 * wendland(single);
        let (a, k, c) = (1.01, both(1.0, 0.25), both(0.25, 0.0625));
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
        let mut posterior = Posterior::new(&layout, &hyper(&[0.3], 1e-9, 1e-6), &rows);
        posterior.learn(&[0.5, -0.5]);
        let before = posterior.predict(&[0.8]);
        posterior.push(&[0.75]);
        posterior.learn(&[0.5, -0.5]);
        let after = posterior.predict(&[0.8]);
        assert!((before.0 - after.0).abs() < 1e-12);
        assert!(after.1 < 0.3 * before.1, "{before:?} {after:?}");
        // And as if made at once.
        let all = [vec![0.1], vec![0.5], vec![0.75]];
        let mut whole = Posterior::new(&layout, &hyper(&[0.3], 1e-9, 1e-6), &all);
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
        let mut posterior = Posterior::new(&layout, &hyper(&[0.4, 1.5, 0.7], 0.4, 1e-3), &features);
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
