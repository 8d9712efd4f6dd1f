//! Partial dependence: the cost as a function of one or two hyperparameters, averaged over all values of
//! the others (Friedman 2001), by exact marginals of a forest's trees as in fANOVA.

use serde_json::Value;

use super::fanova::moments;
use super::forest::Forest;
use super::tree::Scale;
use crate::search::axes::{Axes, Axis, Kind};

/// Most values of an unordered hyperparameter that are shown.
const MAX_CHOICES: u64 = 100;

/// Most points of an axis.
const MAX_POINTS: usize = 1_000;

/// The points of one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticks {
    pub axis: usize,
    /// Coordinates, ascending.
    pub places: Vec<f64>,
    /// The hyperparameter's values there.
    pub values: Vec<Value>,
}

/// The cost along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub ticks: Ticks,
    /// At each tick the mean over trees, and their standard deviation.
    pub mean: Vec<f64>,
    pub spread: Vec<f64>,
}

/// The cost over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Surface {
    pub ticks: [Ticks; 2],
    /// At each pair of ticks, those of the second axis fastest.
    pub mean: Vec<f64>,
    pub spread: Vec<f64>,
}

/// Along one axis at up to `points` values: all, where there are not more, and all choices of an unordered
/// hyperparameter. `None` where there is no such axis.
pub fn curve(forest: &Forest, axes: &Axes, axis: usize, points: usize) -> Option<Curve> {
    let ticks = ticks(axes, axis, points)?;
    let scale = *forest.scales.get(axis)?;
    let trees = forest.trees.iter();
    let marginals: Vec<Vec<f64>> = trees
        .map(|tree| tree.marginal(axis, scale, &ticks.places))
        .collect();
    let (mean, spread) = summary(forest, &marginals, ticks.places.len());
    Some(Curve {
        ticks,
        mean,
        spread,
    })
}

/// Over two axes at up to `points` values of each. `None` where there are no such two.
pub fn surface(forest: &Forest, axes: &Axes, pair: [usize; 2], points: usize) -> Option<Surface> {
    let [first, second] = pair;
    if first == second {
        return None;
    }
    let ticks = [ticks(axes, first, points)?, ticks(axes, second, points)?];
    let scales: [Scale; 2] = [*forest.scales.get(first)?, *forest.scales.get(second)?];
    let places = [ticks[0].places.as_slice(), ticks[1].places.as_slice()];
    let trees = forest.trees.iter();
    let marginals: Vec<Vec<f64>> = trees
        .map(|tree| tree.marginal_of_two(pair, scales, places))
        .collect();
    let cells = places[0].len() * places[1].len();
    let (mean, spread) = summary(forest, &marginals, cells);
    Some(Surface {
        ticks,
        mean,
        spread,
    })
}

/// Mean and spread over trees at each place, as costs.
fn summary(forest: &Forest, marginals: &[Vec<f64>], places: usize) -> (Vec<f64>, Vec<f64>) {
    let at = |place: usize| {
        let values: Vec<f64> = marginals.iter().map(|marginal| marginal[place]).collect();
        let (mean, spread) = moments(&values);
        (forest.least + forest.range * mean, forest.range * spread)
    };
    (0..places).map(at).unzip()
}

fn ticks(axes: &Axes, axis: usize, points: usize) -> Option<Ticks> {
    let known = axes.axes().get(axis)?;
    let domain = &axes.space().parameters().get(axis)?.domain;
    let places = places(known, points.clamp(2, MAX_POINTS));
    let values = places
        .iter()
        .map(|place| domain.at(place.clamp(0.0, 1.0 - f64::EPSILON)));
    Some(Ticks {
        axis,
        values: values.collect(),
        places,
    })
}

fn places(axis: &Axis, points: usize) -> Vec<f64> {
    let evenly = (0..points).map(|at| at as f64 / (points - 1) as f64);
    match axis.kind {
        Kind::Fixed => vec![0.5],
        Kind::Continuous => evenly.collect(),
        Kind::Ordered { cells } if cells <= points as u64 => {
            (0..cells).map(|cell| axis.middle(cell)).collect()
        }
        Kind::Ordered { .. } => {
            let mut places: Vec<f64> = evenly.map(|place| axis.snap(place)).collect();
            places.dedup();
            places
        }
        Kind::Unordered { cells } => (0..cells.min(MAX_CHOICES))
            .map(|cell| axis.middle(cell))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::forest::tests::{lent, mixed, sample};
    use super::*;
    use serde_json::json;
    use trainyard_common::rng::Key;

    #[test]
    fn a_curve_of_an_additive_function_is_its_part() {
        let axes = mixed();
        // The other parts have means 1/2, and 0.4.
        let cost = |p: &[f64]| 2.0 * p[0] + p[1] + f64::from(u8::from(p[3] < 0.4));
        let trials = sample(&axes, 800, cost);
        let forest = Forest::fit(&axes, &lent(&trials), Key::new(4));
        let curve = curve(&forest, &axes, 0, 11).unwrap();
        assert_eq!(curve.ticks.values[..2], [json!(0.0), json!(0.1)]);
        for (place, mean) in curve.ticks.places.iter().zip(&curve.mean) {
            // Trees are flat near the ends: a leaf has the mean of its rows.
            assert!((mean - (2.0 * place + 0.9)).abs() < 0.2, "{place} {mean}");
        }
        let surface = surface(&forest, &axes, [0, 3], 5).unwrap();
        assert_eq!(
            surface.ticks[1].values,
            ["a", "b", "c", "d", "e"].map(Value::from)
        );
        assert_eq!(surface.mean.len(), 25);
        for (at, mean) in surface.mean.iter().enumerate() {
            let (x, choice) = (surface.ticks[0].places[at / 5], at % 5);
            let expected = 2.0 * x + 0.5 + f64::from(u8::from(choice < 2));
            assert!(
                (mean - expected).abs() < 0.25,
                "{x} {choice}: {mean} {expected}"
            );
        }
        assert!(
            surface
                .spread
                .iter()
                .chain(&curve.spread)
                .all(|spread| *spread < 0.3)
        );
    }

    #[test]
    fn ticks_are_values_of_the_hyperparameter() {
        let axes = mixed();
        let forest = Forest::fit(&axes, &[], Key::new(1));
        let values = |axis, points| curve(&forest, &axes, axis, points).unwrap().ticks.values;
        assert_eq!(values(2, 9), [json!(1), json!(2), json!(3), json!(4)]);
        assert_eq!(values(2, 2), [json!(1), json!(4)]);
        assert_eq!(values(5, 9), [json!(3)]);
        let ends = values(1, 2);
        assert!((ends[0].as_f64().unwrap() - 1e-4).abs() < 1e-12);
        assert!((ends[1].as_f64().unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(curve(&forest, &axes, 6, 9), None);
        assert_eq!(surface(&forest, &axes, [0, 0], 9), None);
        assert_eq!(surface(&forest, &axes, [0, 9], 9), None);
    }
}
