//! Hills apart from the incumbent's: a model that is sure too early would never look at them again.
//!
//! A niche is a box around a result that is better than all others nearby. Categories, and hyperparameters that
//! are active in one of two points only, keep them apart: every branch of a conditional space has niches of
//! its own.

use super::super::axes::{Axes, Kind};

/// Half the width of a niche along each axis of the unit cube.
pub(super) const HALF: f64 = 0.2;

/// Results closer than this along all axes are of one niche.
const APART: f64 = 0.25;

/// A box around a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Niche<'a> {
    pub(super) centre: &'a [f64],
}

impl Niche<'_> {
    pub(super) fn contains(&self, axes: &Axes, point: &[f64]) -> bool {
        is_within(axes, self.centre, point, HALF)
    }

    /// The range of a coordinate, of one that is active.
    pub(super) fn range(&self, axis: usize) -> (f64, f64) {
        let centre = self.centre[axis];
        ((centre - HALF).max(0.0), (centre + HALF).min(1.0))
    }
}

fn is_within(axes: &Axes, a: &[f64], b: &[f64], reach: f64) -> bool {
    let close = |(axis, (a, b)): (usize, (&f64, &f64))| match axes.axes()[axis].kind {
        _ if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        Kind::Unordered { .. } => a == b,
        _ => (a - b).abs() <= reach,
    };
    a.iter().zip(b).enumerate().all(close)
}

/// Positions of the best points that are apart from all better ones, the incumbent first; `order` is from the
/// best on.
pub(super) fn peaks(axes: &Axes, points: &[&[f64]], order: &[usize], most: usize) -> Vec<usize> {
    let alone = |rank: &usize| {
        let mut better = order[..*rank].iter();
        better.all(|better| !is_within(axes, points[*better], points[order[*rank]], APART))
    };
    let ranks = (0..order.len()).filter(alone).take(most);
    ranks.map(|rank| order[rank]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::axes;
    use super::*;
    use serde_json::json;

    #[test]
    fn peaks_are_the_best_nearby_and_of_every_branch() {
        let axes = axes(&json!({
            "kind": {"type": "categorical", "vals": ["a", "b"]},
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "y": {"type": "double", "minval": 0, "maxval": 1, "when": {"kind": "b"}},
        }));
        // From the best on: the third is close to the second, which is close to the first.
        let all = [
            [0.25, 0.1, f64::NAN],
            [0.25, 0.3, f64::NAN],
            [0.25, 0.5, f64::NAN],
            [0.25, 0.9, f64::NAN],
            [0.75, 0.1, 0.1],
            [0.75, 0.1, 0.5],
        ];
        let points: Vec<&[f64]> = all.iter().map(<[f64; 3]>::as_slice).collect();
        let order = [0, 1, 2, 3, 4, 5];
        assert_eq!(peaks(&axes, &points, &order, 9), [0, 3, 4, 5]);
        assert_eq!(peaks(&axes, &points, &order, 2), [0, 3]);
        let niche = Niche { centre: points[4] };
        assert!(niche.contains(&axes, &[0.75, 0.29, 0.0]));
        assert!(!niche.contains(&axes, &[0.75, 0.31, 0.1]));
        assert!(!niche.contains(&axes, &[0.25, 0.1, f64::NAN]));
        assert_eq!(niche.range(1), (0.0, 0.1 + HALF));
    }
}
