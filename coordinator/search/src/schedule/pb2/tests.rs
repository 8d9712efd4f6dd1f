//! The model by its closed forms, and its choices beside those of the slow way.

use super::*;
use serde_json::json;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Space;

fn point(x: f64, time: f64) -> Point {
    let x = vec![x];
    Point { x, time }
}

fn axes(space: serde_json::Value) -> Axes {
    let space: Space = serde_json::from_value(space).unwrap();
    Axes::new(SearchSpace::new(&space).unwrap())
}

/// Mean and variance of the standardized gain, from all rows.
fn predict(model: &Model, at: &Point) -> (f64, f64) {
    let known = model.points.iter();
    let covariance: Vec<f64> = known.map(|point| model.kernel.of(point, at)).collect();
    let half = forward(&model.factor, &covariance);
    let variance = (1.0 - dot(&half, &half)).max(0.0);
    (dot(&covariance, &model.weights), variance)
}

/// As [`Bandit::choose`], from scratch and for each candidate from all rows: what searches were made with before.
fn chosen_slowly(
    bandit: &Bandit,
    axes: &Axes,
    base: &Params,
    time: f64,
    others: &[&Params],
    key: Key,
) -> Option<Params> {
    let dimensions = dimensions(axes);
    let base = axes.encode(base)?;
    let kernel = bandit.kernel.filter(|_| !dimensions.is_empty())?;
    let places = others.iter().filter_map(|params| axes.encode(params));
    let at = |place: &[f64]| Point {
        x: numbers(&dimensions, place),
        time,
    };
    let pending = places.map(|place| at(&place)).collect();
    let both = (&bandit.points, &bandit.gains);
    let mut model = Model::new(kernel, both, pending, time, None)?;
    let covariance = below(&model.points, |a, b| kernel.of(a, b));
    model.factor = factored(&covariance, kernel.noise)?;
    let beta = C1 + libm::log(C2 * bandit.points.len() as f64).max(0.0);
    let mut best: Option<(f64, Vec<f64>)> = None;
    let consider = |place: Vec<f64>, best: &mut Option<(f64, Vec<f64>)>| {
        let (mean, variance) = predict(&model, &at(&place));
        let bound = mean + (beta * variance).sqrt();
        if best.as_ref().is_none_or(|(known, _)| bound > *known) && axes.allows(&place) {
            *best = Some((bound, place));
        }
    };
    for number in 0..DRAWN {
        let key = key.with(number);
        let place = moved(axes, &dimensions, &base, |axis, _| key.unit(axis));
        consider(place, &mut best);
    }
    for round in 0..ROUNDS {
        let (_, center) = best.clone()?;
        let width = 0.125 / (1u64 << round) as f64;
        for number in 0..NEAR {
            let key = key.named("near").with(round).with(number);
            let near = |axis, place: f64| (place + width * key.normal(axis)).clamp(0.0, 1.0);
            consider(moved(axes, &dimensions, &center, near), &mut best);
        }
    }
    best.map(|(_, place)| axes.decode(&place))
}

/// Rounds of a population in which some keep their numbers and the others choose one after the other, each with those
/// before it in its place among all.
#[test]
fn choices_are_those_of_the_slow_way() {
    let axes = axes(json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1, "log": true},
        "units": {"type": "int", "minval": 1, "maxval": 64},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
        "momentum": {"type": "double", "minval": 0, "maxval": 0.9, "when": {"optimizer": "sgd"}},
    }));
    let mut chosen_in_all = 0;
    for (seed, members) in (0..).zip([2u64, 5, 20, 60]) {
        let key = Key::new(seed);
        let (mut bandit, mut population) = (Bandit::default(), Vec::new());
        for member in 0..members {
            population.push(axes.decode(&axes.draw(key.with(member))));
        }
        for time in 0..6u64 {
            let key = key.named("round").with(time);
            for (member, params) in (0..).zip(&population) {
                // Few gains, and those of one round all the same.
                let gain = if time == 2 {
                    1.0
                } else {
                    libm::floor(4.0 * key.unit(member))
                };
                bandit.tell(&axes, params, time as f64, gain);
            }
            bandit.prepare();
            let chooses = |member: u64| key.named("chooses").unit(member) < 0.4;
            let mut planned: Vec<Option<Params>> = (0..)
                .zip(&population)
                .map(|(member, params)| (!chooses(member)).then(|| params.clone()))
                .collect();
            for member in (0..members).filter(|member| chooses(*member)) {
                let others: Vec<&Params> = planned.iter().flatten().collect();
                let (base, at) = (&population[member as usize], time as f64 + 1.0);
                let key = key.with(member);
                let slow = chosen_slowly(&bandit, &axes, base, at, &others, key);
                let found = bandit.choose(&axes, base, at, &others, key);
                assert_eq!(found, slow, "member {member} of {members}, round {time}");
                chosen_in_all += usize::from(found.is_some());
                planned[member as usize] = Some(found.unwrap_or_else(|| base.clone()));
            }
            if time % 2 == 0 {
                bandit.held = None;
            }
            population = planned.into_iter().flatten().collect();
        }
    }
    assert!(chosen_in_all > 100, "{chosen_in_all}");
}

/// One observation of gain g at (x, t): the mean is k g / (1 + noise), the variance 1 - k^2 / (1 + noise).
/// Two that are alike and far from each other: gains +1 and -1, as if each were alone.
#[test]
fn predictions_are_those_of_the_closed_form() {
    let kernel = Kernel {
        scale: 0.5 / 0.04,
        forgetting: -0.5 * libm::log(1.0 - 0.19),
        noise: 0.25,
    };
    let points = VecDeque::from([point(0.1, 3.0), point(1e6, 3.0)]);
    let gains = VecDeque::from([5.0, 3.0]);
    let model = Model::new(kernel, (&points, &gains), vec![], 5.0, None).unwrap();
    // exp(-0.2^2 / (2 * 0.2^2)) * (1 - 0.19)^(2 / 2).
    let k = libm::exp(-0.5) * 0.81;
    let (mean, variance) = predict(&model, &point(0.3, 5.0));
    assert!((mean - k / 1.25).abs() < 1e-6, "{mean}");
    assert!((variance - (1.0 - k * k / 1.25)).abs() < 1e-6, "{variance}");
    // What others train with lowers the deviation and leaves the mean.
    let pending = vec![point(0.3, 5.0)];
    let told = Model::new(kernel, (&points, &gains), pending, 5.0, None).unwrap();
    let (same, smaller) = predict(&told, &point(0.3, 5.0));
    assert_eq!(same, mean);
    // Conditioned once more: v - v^2 / (v + noise).
    let expected = variance - variance * variance / (variance + 0.25);
    assert!((smaller - expected).abs() < 1e-6, "{smaller} {expected}");
}

#[test]
fn the_factor_gives_the_covariance_again() {
    let key = Key::new(1);
    let points: Vec<Point> = (0..23)
        .map(|i| point(key.unit(i), i as f64 / 3.0))
        .collect();
    let kernel = Kernel {
        scale: 3.0,
        forgetting: 0.1,
        noise: 0.1,
    };
    let covariance = below(&points, |a, b| kernel.of(a, b));
    let rows = factored(&covariance, 0.1).unwrap();
    for i in 0..23 {
        for j in 0..=i {
            let given = if i == j {
                1.1 + JITTER
            } else {
                covariance[i][j]
            };
            let again: f64 = (0..=j).map(|k| rows[i][k] * rows[j][k]).sum();
            assert!((again - given).abs() < 1e-12, "{i} {j}");
        }
    }
    // L L^T x = b.
    let b: Vec<f64> = (0..23).map(|i| key.unit(100 + i)).collect();
    let x = backward(&rows, forward(&rows, &b));
    for i in 0..23 {
        let row = (0..23).map(|j| {
            let k = if i == j {
                1.1 + JITTER
            } else {
                covariance[i.max(j)][i.min(j)]
            };
            k * x[j]
        });
        assert!((row.sum::<f64>() - b[i]).abs() < 1e-10);
    }
}

#[test]
fn new_numbers_go_to_the_side_of_the_newest_gains_where_nobody_is() {
    let axes = axes(json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1, "log": true},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
    }));
    let params = |place: f64| axes.decode(&[place, 0.75]);
    let mut bandit = Bandit::default();
    let base = params(0.5);
    let chosen = bandit.choose(&axes, &base, 10.0, &[], Key::new(1));
    assert_eq!(chosen, None, "nothing is known");
    // Until time 20 the best is at 0.2, from then on at 0.8.
    for time in 0..40 {
        let best = if time < 20 { 0.2 } else { 0.8 };
        for number in 0..2 {
            let place = Key::new(time).unit(number);
            let gain = -(place - best) * (place - best);
            bandit.tell(&axes, &params(place), time as f64, gain);
        }
    }
    bandit.prepare();
    assert!(
        bandit.kernel.unwrap().forgetting > 0.0,
        "{:?}",
        bandit.kernel
    );
    for seed in 0..10 {
        let key = Key::new(seed);
        let chosen = bandit.choose(&axes, &base, 40.0, &[], key).unwrap();
        let place = axes.encode(&chosen).unwrap()[0];
        assert!(place > 0.6, "{place}");
        assert_eq!(chosen["optimizer"], "adam", "left as it was");
        // Ten are there already: it looks elsewhere.
        let others = vec![&chosen; 10];
        let other = bandit.choose(&axes, &base, 40.0, &others, key).unwrap();
        assert_ne!(other, chosen);
    }
}
