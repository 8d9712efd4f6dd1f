//! What searchers that move points about share: which points are the same, and draws that are allowed.

use trainyard_common::rng::Key;

use super::axes::Axes;
use super::history::History;

/// Draws of the whole space before one is led to what meets the constraints.
const TRIES: u64 = 1_000;

/// How far a coordinate may lie from itself: a value of a hyperparameter is written and read in between.
const ROUNDING: f64 = 1e-9;

/// Whether two points are the same, as far as a configuration tells.
pub(super) fn same(a: &[f64], b: &[f64]) -> bool {
    let equal = |(a, b): (&f64, &f64)| (a - b).abs() <= ROUNDING || (a.is_nan() && b.is_nan());
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

/// Whether no trial has had this point.
pub(super) fn is_new(history: &History, point: &[f64]) -> bool {
    !history.trials.iter().any(|past| same(&past.point, point))
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
