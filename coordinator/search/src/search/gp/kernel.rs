//! The correlation of two points, over numbers, categories and hyperparameters that are active in some
//! configurations only: a part for the whole point and a part for each axis by itself,
//! `(1 - w) matern(sum of d_g^2 / l_g^2) + w mean of wendland(d_g^2 / q_g^2)`.
//!
//! The second part (Duvenaud, Nickisch and Rasmussen 2011, "Additive Gaussian processes", of first order)
//! learns what each axis does from all points, however far apart they are along the others.
//!
//! Every axis embeds its coordinates in a Euclidean space, so that the correlations are positive definite:
//! - a number lies on a line;
//! - a number of a conditional hyperparameter lies on an arc of one radian whose centre is where the inactive
//!   ones are (Hutter and Osborne 2013, "A kernel for hierarchical parameter spaces"): active and inactive
//!   are as far apart as the arc's radius, about as far as the two ends of the range;
//! - categories are the corners of a simplex with edges of length 1, "inactive" one more.

use super::super::axes::{Axes, Kind};

const ROOT_5: f64 = 2.236_067_977_499_79;

/// Stands for the category "inactive".
const INACTIVE: f64 = -1.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Line,
    Arc,
    Overlap,
}

/// An axis on which there is something to choose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dimension {
    pub(super) axis: usize,
    pub(super) shape: Shape,
    /// Where its features begin: two of an arc, one of the others.
    pub(super) feature: usize,
}

/// How points become features.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dimensions: Vec<Dimension>,
    pub(super) features: usize,
}

impl Layout {
    pub(super) fn new(axes: &Axes) -> Self {
        let (mut dimensions, mut features) = (Vec::new(), 0);
        for (axis, of) in axes.axes().iter().enumerate() {
            let shape = match (of.kind, of.needs.is_empty()) {
                (Kind::Fixed, _) => continue,
                (Kind::Unordered { .. }, _) => Shape::Overlap,
                (_, true) => Shape::Line,
                (_, false) => Shape::Arc,
            };
            dimensions.push(Dimension {
                axis,
                shape,
                feature: features,
            });
            features += if shape == Shape::Arc { 2 } else { 1 };
        }
        Self {
            dimensions,
            features,
        }
    }

    /// The features of a settled point, for length scales of one.
    pub(super) fn embed(&self, point: &[f64]) -> Vec<f64> {
        let mut features = Vec::with_capacity(self.features);
        for dimension in &self.dimensions {
            let place = point.get(dimension.axis).copied().unwrap_or(f64::NAN);
            match dimension.shape {
                Shape::Line => features.push(if place.is_nan() { 0.5 } else { place }),
                Shape::Overlap => features.push(if place.is_nan() { INACTIVE } else { place }),
                Shape::Arc if place.is_nan() => features.extend([0.0, 0.0]),
                Shape::Arc => {
                    features.extend([libm::cos(place - 0.5), libm::sin(place - 0.5)]);
                }
            }
        }
        features
    }

    /// The squared distance of two points along one dimension, for a length scale of one.
    pub(super) fn squared(dimension: Dimension, a: &[f64], b: &[f64]) -> f64 {
        let at = dimension.feature;
        match dimension.shape {
            Shape::Overlap => f64::from(u8::from(a[at] != b[at])),
            Shape::Line => (a[at] - b[at]) * (a[at] - b[at]),
            Shape::Arc => {
                let (x, y) = (a[at] - b[at], a[at + 1] - b[at + 1]);
                x * x + y * y
            }
        }
    }
}

/// Matern 5/2 by the squared scaled distance: (1 + s + s^2 / 3) e^-s with s = sqrt(5 r^2).
pub(super) fn matern(squared: f64) -> f64 {
    let s = ROOT_5 * squared.max(0.0).sqrt();
    (1.0 + s + s * s / 3.0) * libm::exp(-s)
}

/// The same and its derivative by r^2, -5/6 (1 + s) e^-s, which has no pole at 0.
pub(super) fn matern_slope(squared: f64) -> (f64, f64) {
    let s = ROOT_5 * squared.max(0.0).sqrt();
    let decay = libm::exp(-s);
    (
        (1.0 + s + s * s / 3.0) * decay,
        -5.0 / 6.0 * (1.0 + s) * decay,
    )
}

/// Wendland's function of three dimensions with four derivatives, by r^2: (1 - r)^6 (35 r^2 + 18 r + 3) / 3
/// below 1 and 0 beyond (Wendland 1995). About as smooth as Matern 5/2, without an exponential.
#[inline]
pub(super) fn wendland(squared: f64) -> f64 {
    let r = squared.sqrt();
    let rest = if r < 1.0 { 1.0 - r } else { 0.0 };
    let cube = rest * rest * rest;
    cube * cube * (35.0 / 3.0 * squared + 6.0 * r + 1.0)
}

/// Its derivative by r^2: -28/3 (5 r + 1) (1 - r)^5.
#[inline]
pub(super) fn wendland_slope(squared: f64) -> f64 {
    let r = squared.sqrt();
    let rest = if r < 1.0 { 1.0 - r } else { 0.0 };
    let square = rest * rest;
    -28.0 / 3.0 * (5.0 * r + 1.0) * (square * square * rest)
}

#[cfg(test)]
mod tests {
    use super::super::tests::axes;
    use super::*;
    use serde_json::json;

    #[test]
    fn matern_by_hand() {
        assert_eq!(matern(0.0), 1.0);
        // At r = 1: (1 + sqrt 5 + 5/3) e^-sqrt(5) = 0.523994108831...
        assert!((matern(1.0) - 0.523_994_108_831).abs() < 1e-12);
        for squared in [0.0, 1e-8, 0.3, 2.0, 40.0] {
            let (value, slope) = matern_slope(squared);
            assert_eq!(value, matern(squared));
            let step = 1e-6 * (squared + 0.1);
            let wide = (matern(squared + 2.0 * step) - matern(squared + step)) / step;
            assert!((wide - slope).abs() < 3e-3 * slope.abs(), "{squared}");
        }
    }

    #[test]
    fn wendland_by_hand() {
        // At r = 1/2: 2^-6 (35/4 + 9 + 3) / 3 = 83/4 / 192.
        assert!((wendland(0.25) - 20.75 / 192.0).abs() < 1e-15);
        assert_eq!(
            [wendland(0.0), wendland(1.0), wendland(9.0)],
            [1.0, 0.0, 0.0]
        );
        for squared in [1e-4, 0.1, 0.5, 0.9, 4.0] {
            let step = 1e-7;
            let wide = (wendland(squared + step) - wendland(squared - step)) / step / 2.0;
            assert!((wide - wendland_slope(squared)).abs() < 1e-5, "{squared}");
        }
    }

    #[test]
    fn distances_of_each_shape() {
        let axes = axes(&json!({
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "kind": {"type": "categorical", "vals": ["a", "b", "c"]},
            "y": {"type": "double", "minval": 0, "maxval": 1, "when": {"kind": "a"}},
            "z": {"type": "categorical", "vals": [1, 2], "when": {"kind": "a"}},
            "fixed": {"type": "const", "val": 1},
        }));
        let layout = Layout::new(&axes);
        let shapes: Vec<Shape> = layout.dimensions.iter().map(|d| d.shape).collect();
        assert_eq!(
            shapes,
            [Shape::Line, Shape::Overlap, Shape::Arc, Shape::Overlap]
        );
        assert_eq!(layout.features, 5);
        let mut points = [
            vec![0.1, 0.1, 0.2, 0.2, 0.5],
            vec![0.4, 0.1, 0.9, 0.9, 0.5],
            vec![0.4, 0.5, 0.2, 0.2, 0.5],
        ];
        points.iter_mut().for_each(|point| axes.settle(point));
        let features: Vec<Vec<f64>> = points.iter().map(|point| layout.embed(point)).collect();
        let squared = |a: usize, b: usize| -> Vec<f64> {
            let along = layout.dimensions.iter();
            along
                .map(|d| Layout::squared(*d, &features[a], &features[b]))
                .collect()
        };
        let close = |found: &[f64], expected: &[f64]| {
            let pairs = found.iter().zip(expected);
            pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-12)
        };
        // A chord of 0.7 radians: 2 - 2 cos 0.7.
        let chord = 2.0 - 2.0 * 0.7f64.cos();
        assert!(close(&squared(0, 1), &[0.09, 0.0, chord, 1.0]));
        assert!(close(&squared(0, 2), &[0.09, 1.0, 1.0, 1.0]));
        assert!(close(&squared(2, 2), &[0.0; 4]));
    }
}
