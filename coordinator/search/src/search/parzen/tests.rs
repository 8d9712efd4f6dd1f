use serde_json::json;

use super::frame::{Frame, Values};
use super::*;
use crate::search::trial_run::{axes, cube, every_kind};

/// Two observations on an axis with equal weights, a prior of half their weight.
fn density(space: serde_json::Value, seen: [f64; 2], width: f64, at: f64) -> f64 {
    let frame = Frame::new(&axes(space));
    let points = seen.map(|place| [place]);
    let mut sample = Sample::default();
    points.iter().for_each(|point| sample.push(point, 1.0));
    let mixture = Mixture::new(&frame, &sample, 0.5, &[width]);
    libm::exp(mixture.ln_density(&frame, &[at], &mut Vec::new()))
}

/// The standard normal distribution.
fn below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

#[test]
fn numbers_have_truncated_normal_kernels() {
    let space = || json!({"x": {"type": "double", "minval": 0, "maxval": 1}});
    // By Python's math.erfc.
    let found = density(space(), [0.1, 0.6], 0.2, 0.3);
    let kernel = |center: f64| {
        let z = (0.3 - center) / 0.2;
        let height = libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * std::f64::consts::PI) / 0.2;
        height / (below((1.0 - center) / 0.2) - below(-center / 0.2))
    };
    assert!((kernel(0.1) - 1.7497111).abs() < 1e-6, "{}", kernel(0.1));
    assert!((kernel(0.6) - 0.6635803).abs() < 1e-6, "{}", kernel(0.6));
    let expected = 0.4 * kernel(0.1) + 0.4 * kernel(0.6) + 0.2;
    assert!((found - expected).abs() < 1e-8, "{found} {expected}");
    // It is a density.
    let step = |index: i32| density(space(), [0.1, 0.6], 0.05, (f64::from(index) + 0.5) / 1e4);
    let integral = (0..10_000).map(step).sum::<f64>() / 1e4;
    assert!((integral - 1.0).abs() < 1e-6, "{integral}");
}

#[test]
fn choices_are_the_observed_one_or_any() {
    let space = || json!({"x": {"type": "categorical", "vals": ["a", "b", "c", "d"]}});
    let middle = |cell: f64| (cell + 0.5) / 4.0;
    // A kernel has its own value with 0.8 + 0.2 / 4, another with 0.2 / 4; densities are 4 times that.
    let found =
        [0.0, 1.0, 2.0].map(|at| density(space(), [middle(0.0), middle(1.0)], 0.2, middle(at)));
    let expected = [
        0.4 * 3.4 + 0.4 * 0.2 + 0.2,
        0.4 * 0.2 + 0.4 * 3.4 + 0.2,
        0.4 * 0.2 + 0.4 * 0.2 + 0.2,
    ];
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

#[test]
fn ordered_values_have_the_mass_of_their_cells() {
    // Few cells, many cells, and cells of a logarithm, whose lengths differ.
    let spaces = [
        json!({"x": {"type": "int", "minval": 1, "maxval": 5}}),
        json!({"x": {"type": "int", "minval": 1, "maxval": 90}}),
        json!({"x": {"type": "int", "minval": 1, "maxval": 200, "log": true}}),
    ];
    for (space, count) in spaces.into_iter().zip([5u64, 90, 200]) {
        let all = axes(space.clone());
        let frame = Frame::new(&all);
        let Values::Ordered(cells) = frame.groups[0].dims[0].values else {
            panic!("not ordered");
        };
        let (mut last, mut total) = (0.0, 0.0);
        for cell in 0..count {
            let (low, high) = cells.bounds(cell);
            assert!((low - last).abs() < 1e-12);
            last = high;
            let middle = cells.middle(cell);
            assert!((all.axes()[0].middle(cell) - middle).abs() < 1e-12);
            assert_eq!(cells.at(middle), cell);
            let seen = [cells.middle(1), cells.middle(3)];
            let mass = |center: f64| {
                let part = below((high - center) / 0.1) - below((low - center) / 0.1);
                part / (below((1.0 - center) / 0.1) - below(-center / 0.1))
            };
            let expected = 0.4 * mass(seen[0]) + 0.4 * mass(seen[1]) + 0.2 * (high - low);
            let found = density(space.clone(), seen, 0.1, middle) * (high - low);
            assert!(
                (found / expected - 1.0).abs() < 3e-3,
                "{cell}: {found} {expected}"
            );
            total += found;
        }
        assert!(
            (last - 1.0).abs() < 1e-12 && (total - 1.0).abs() < 1e-4,
            "{last} {total}"
        );
    }
}

#[test]
fn axes_that_are_active_together_are_groups() {
    let axes = axes(json!({
        "a": {"type": "categorical", "vals": ["x", "y", "z"]},
        "b": {"type": "double", "minval": 0, "maxval": 1},
        "c": {"type": "int", "minval": 1, "maxval": 3, "when": {"a": ["x", "y"]}},
        "d": {"type": "double", "minval": 0, "maxval": 1, "when": {"a": ["y", "x"]}},
        "e": {"type": "double", "minval": 0, "maxval": 1, "when": {"a": "x"}},
        "f": {"type": "double", "minval": 0, "maxval": 1, "when": {"c": 2}},
        "g": {"type": "boolean", "when": {"c": 2, "a": ["x", "y"]}},
        "h": {"type": "const", "val": 1},
    }));
    let frame = Frame::new(&axes);
    let group = |group: &Group| group.dims.iter().map(|dim| dim.axis).collect();
    let groups: Vec<Vec<usize>> = frame.groups.iter().map(group).collect();
    assert_eq!(groups, [vec![0, 1], vec![2, 3], vec![4], vec![5, 6]]);
}

#[test]
fn an_inactive_hyperparameter_says_nothing() {
    let axes = axes(json!({
        "a": {"type": "categorical", "vals": ["x", "y"]},
        "b": {"type": "double", "minval": 0, "maxval": 1, "when": {"a": "x"}},
    }));
    let frame = Frame::new(&axes);
    let (with, without) = ([0.25, 0.3], [0.75, f64::NAN]);
    let mut sample = Sample::default();
    sample.push(&with, 1.0);
    sample.push(&without, 1.0);
    let mixture = Mixture::new(&frame, &sample, 1.0, &[0.5, 0.1]);
    let at = |point: &[f64]| libm::exp(mixture.ln_density(&frame, point, &mut Vec::new()));
    // Own choice 0.75 * 2, the other 0.25 * 2; on b only the first kernel is not even.
    let peak = 1.0 / (0.1 * libm::sqrt(2.0 * std::f64::consts::PI)) / (1.0 - below(-3.0));
    let expected = (1.5 * peak + 0.5 + 1.0) / 3.0;
    assert!((at(&[0.25, 0.3]) - expected).abs() < 1e-6 * expected);
    assert!((at(&without) - (0.5 + 1.5 + 1.0) / 3.0).abs() < 1e-12);
}

#[test]
fn draws_follow_the_density() {
    let axes = every_kind();
    let frame = Frame::new(&axes);
    let points: Vec<Vec<f64>> = (0..3).map(|seed| axes.draw(Key::new(seed))).collect();
    let mut sample = Sample::default();
    points.iter().for_each(|point| sample.push(point, 1.0));
    let mixture = Mixture::new(&frame, &sample, 1.0, &[0.2; 8]);
    // The mean of 1 / density over draws is the volume of the space that both have: 1. Groups that are
    // drawn from another kernel would bend it, so that only the first, always active, is looked at.
    let first = Frame {
        groups: frame.groups[..1].to_vec(),
        ..frame.clone()
    };
    let narrow = Mixture {
        blocks: mixture.blocks[..1].to_vec(),
        ..mixture
    };
    let draws = 20_000;
    let inverse = |draw: u64| {
        let point = narrow.draw(&first, Key::new(9).with(draw), |_, _| true);
        libm::exp(-narrow.ln_density(&first, &point, &mut Vec::new()))
    };
    let mean = (0..draws).map(inverse).sum::<f64>() / draws as f64;
    assert!((mean - 1.0).abs() < 0.05, "{mean}");
}

#[test]
fn old_observations_are_thinned_to_their_weight() {
    let points: Vec<[f64; 1]> = (0..1_003).map(|place| [f64::from(place)]).collect();
    let points: Vec<&[f64]> = points.iter().map(<[f64; 1]>::as_slice).collect();
    for count in [0, 1, 100, 101, 200, 201, 777, 1_003] {
        let sample = Sample::thinned(&points[..count], 100);
        assert!(sample.points.len() <= 200 && sample.points.len() >= count.min(100));
        assert_eq!(sample.weights.iter().sum::<f64>(), count as f64);
    }
    assert_eq!(Sample::thinned(&points[..200], 100).weights, [1.0; 200]);
}

#[test]
fn spread_is_the_deviation_with_an_even_axis() {
    let mut sample = Sample::default();
    assert!((sample.spread(0, 1.0) - libm::sqrt(1.0 / 12.0)).abs() < 1e-12);
    sample.push(&[0.2], 1.0);
    sample.push(&[f64::NAN], 5.0);
    sample.push(&[0.4], 1.0);
    assert!((sample.spread(0, 0.0) - 0.1).abs() < 1e-12);
    // Mean (0.2 + 0.4 + 0.5) / 3; squares of distances from it, and the variance 1/12 of an even axis.
    let mean: f64 = 1.1 / 3.0;
    let squares = (0.2 - mean).powi(2) + (0.4 - mean).powi(2) + (0.5 - mean).powi(2) + 1.0 / 12.0;
    assert!((sample.spread(0, 1.0) - libm::sqrt(squares / 3.0)).abs() < 1e-12);
}

#[test]
fn sums_are_right_where_terms_differ_much() {
    let sum = |terms: &[f64], last: f64| ln_sum_exp(terms, last);
    assert!((sum(&[0.0; 7], 0.0) - libm::log(8.0)).abs() < 1e-12);
    assert_eq!(sum(&[-1e4; 9], 3.0), 3.0);
    assert!((sum(&[-1e4, 2.0, -1e4, -1e4, 2.0], -900.0) - 2.0 - libm::log(2.0)).abs() < 1e-12);
    assert_eq!(
        sum(&[f64::NEG_INFINITY; 5], f64::NEG_INFINITY),
        f64::NEG_INFINITY
    );
    let (_, frame) = (cube(2), Frame::new(&cube(2)));
    let far = Mixture::new(
        &frame,
        &Sample {
            points: vec![&[0.0, 0.0]],
            weights: vec![1.0],
        },
        1.0,
        &[1e-3; 2],
    );
    let density = far.ln_density(&frame, &[1.0, 1.0], &mut Vec::new());
    assert!((density - libm::log(0.5)).abs() < 1e-12, "{density}");
}
