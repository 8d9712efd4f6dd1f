//! What searchers that move points about share: which points are the same, and draws that are allowed.

use std::collections::BTreeMap;

use trainyard_common::rng::Key;

use super::axes::Axes;

/// Draws of the whole space before one is led to what meets the constraints.
const TRIES: u64 = 1_000;

/// How far a coordinate may lie from itself: a value of a hyperparameter is written and read in between.
const ROUNDING: f64 = 1e-9;

/// Whether two points are the same, as far as a configuration tells.
pub(super) fn same(a: &[f64], b: &[f64]) -> bool {
    let equal = |(a, b): (&f64, &f64)| (a - b).abs() <= ROUNDING || (a.is_nan() && b.is_nan());
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

/// Where points lie along one line through the cube: the same ones lie close together on it, and few others do.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<i64, Vec<usize>>);

impl Places {
    pub(super) fn insert(&mut self, trial: usize, point: &[f64]) {
        self.0.entry(cell(point)).or_default().push(trial);
    }

    /// Trials among which are all that have the same point.
    pub(super) fn near(&self, point: &[f64]) -> impl Iterator<Item = usize> {
        let cell = cell(point);
        let cells = cell.saturating_sub(1)..=cell.saturating_add(1);
        self.0
            .range(cells)
            .flat_map(|(_, trials)| trials.iter().copied())
    }
}

/// The cell of the line in which a point lies; the same points lie in one or in neighbours. The line's slopes are
/// multiples of the golden ratio modulo 1, so that different values of several axes hardly add up to the same.
fn cell(point: &[f64]) -> i64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let mut slope = 0.0;
    let mut place = 0.0;
    for x in point {
        slope = (slope + GOLDEN) % 1.0;
        // An inactive coordinate is none in either of two points.
        if !x.is_nan() {
            place += (1.0 + slope) * x;
        }
    }
    // Slopes are below 2: as far apart as points may be that are the same, and as much again for rounding.
    let width = 4.0 * ROUNDING * point.len().max(1) as f64;
    libm::floor(place / width) as i64
}

/// A settled point drawn evenly from those that meet the constraints; any where none is known.
pub(super) fn draw_allowed(axes: &Axes, key: Key) -> Vec<f64> {
    let tries = if axes.space().rarely_allows() {
        0
    } else {
        TRIES
    };
    let mut draws = (0..tries).map(|attempt| axes.draw(key.with(attempt)));
    let found = draws.find(|point| axes.allows(point));
    let found = found.or_else(|| axes.draw_rare(key.named("rare")));
    found.unwrap_or_else(|| axes.draw(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_same_point_is_near() {
        let key = Key::new(3);
        let coordinate = |trial: u64, axis: u64| match key.with(trial).below(axis, 8) {
            0 => f64::NAN,
            cell => cell as f64 / 8.0 + key.with(axis).unit(trial),
        };
        let point = |trial: u64| (0..5).map(|axis| coordinate(trial, axis)).collect();
        let points: Vec<Vec<f64>> = (0..500).map(point).collect();
        let mut places = Places::default();
        for (trial, point) in points.iter().enumerate() {
            places.insert(trial, point);
        }
        let mut near = 0;
        for (trial, point) in points.iter().enumerate() {
            // As far away as the same point may be, in each direction.
            for side in [-1.0, 1.0] {
                let other: Vec<f64> = point.iter().map(|x| x + side * 0.99e-9).collect();
                assert!(same(point, &other));
                assert!(places.near(&other).any(|found| found == trial));
                near += places.near(&other).count();
            }
        }
        assert!(near < 1_010, "{near}");
    }
}
