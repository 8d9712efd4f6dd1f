//! The first points: evenly spread before a model can tell more.

use trainyard_common::rng::Key;

use super::super::axes::{Axes, Kind};
use super::super::sequence::Sequence;

/// How many points are spread before the model is asked: two for each dimension, and at least
/// these, at most those.
pub(super) fn length(dimensions: usize) -> usize {
    (2 * dimensions).clamp(4, 10)
}

/// The settled point of an index: the middle of the space, then points of a scrambled Sobol sequence. Each run
/// of c points has every one of an unordered axis' c categories once.
pub(super) fn point(axes: &Axes, seed: Key, index: u64) -> Vec<f64> {
    let sobol = Sequence::Sobol(seed.named("design"));
    let place = |(at, axis): (usize, &super::super::axes::Axis)| match axis.kind {
        Kind::Unordered { cells } => {
            let key = seed.named("categories").with(at as u64);
            axis.middle(shuffled(key.with(index / cells), cells, index % cells))
        }
        _ if index == 0 => 0.5,
        // The sequence's first point lies anywhere: the middle takes its place.
        _ => sobol.at(index, at),
    };
    let mut point: Vec<f64> = axes.axes().iter().enumerate().map(place).collect();
    axes.settle(&mut point);
    point
}

/// Where a random order of 0..cells has its entry at an index. Long ones are turned, not shuffled.
fn shuffled(key: Key, cells: u64, index: u64) -> u64 {
    if cells > 64 {
        return (index + key.below(0, cells)) % cells;
    }
    let mut order: Vec<u64> = (0..cells).collect();
    for last in (1..order.len()).rev() {
        let other = key.below(last as u64, last as u64 + 1) as usize;
        order.swap(last, other);
    }
    order.get(index as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::axes;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_design_has_the_middle_every_category_and_every_eighth() {
        let axes = axes(&json!({
            "x": {"type": "double", "minval": 0, "maxval": 1},
            "kind": {"type": "categorical", "vals": ["a", "b", "c", "d"]},
            "y": {"type": "double", "minval": 0, "maxval": 1, "when": {"kind": "a"}},
        }));
        for seed in 0..20 {
            let points: Vec<Vec<f64>> = (0..8)
                .map(|index| point(&axes, Key::new(seed), index))
                .collect();
            assert_eq!(points[0][0], 0.5);
            for run in points.chunks(4) {
                let mut cells: Vec<u64> = run.iter().map(|p| axes.axes()[1].cell(p[1])).collect();
                cells.sort_unstable();
                assert_eq!(cells, [0, 1, 2, 3]);
            }
            let eighths = points[1..].iter().map(|p| (p[0] * 8.0) as u64);
            let eighths: std::collections::BTreeSet<u64> = eighths.collect();
            assert_eq!(eighths.len(), 7);
            assert!(points.iter().all(|p| p[2].is_nan() == (p[1] > 0.25)));
        }
        assert_eq!([1, 3, 20].map(length), [4, 6, 10]);
    }
}
