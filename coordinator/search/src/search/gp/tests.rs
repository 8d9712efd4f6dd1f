use std::collections::BTreeSet;

use serde_json::{Value, json};
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Space;

use super::super::history::Status;
use super::*;

pub(super) fn axes(space: &Value) -> Axes {
    let space: Space = serde_json::from_value(space.clone()).unwrap();
    Axes::new(SearchSpace::new(&space).unwrap())
}

/// Drawn points.
pub(super) fn points(axes: &Axes, count: u64) -> Vec<Vec<f64>> {
    (0..count).map(|seed| axes.draw(Key::new(seed))).collect()
}

fn double() -> Value {
    json!({"type": "double", "minval": 0, "maxval": 1})
}

/// All kinds of axes, with conditions.
fn mixed() -> Axes {
    axes(&json!({
        "lr": {"type": "double", "minval": 1e-5, "maxval": 1.0, "log": true},
        "units": {"type": "int", "minval": 1, "maxval": 500, "log": true},
        "layers": {"type": "int", "minval": 1, "maxval": 4},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam", "rmsprop"]},
        "momentum": {"type": "double", "minval": 0, "maxval": 0.9, "when": {"optimizer": ["sgd", "rmsprop"]}},
        "nesterov": {"type": "categorical", "vals": [true, false], "when": {"optimizer": "sgd"}},
        "fixed": {"type": "const", "val": 3},
    }))
}

fn bowl(point: &[f64]) -> f64 {
    let term = |(at, place): (usize, &f64)| {
        let from = if place.is_nan() { 0.3 } else { place - 0.3 };
        (1.0 + at as f64) * from * from
    };
    point.iter().enumerate().map(term).sum()
}

/// Asks so many times; each trial ends at once with what `status` tells of it.
fn run(axes: &Axes, trials: u64, status: impl Fn(u64, &[f64]) -> Status) -> History {
    let mut gp = Gp::new(axes, 1_000);
    let mut history = History::default();
    for trial in 0..trials {
        let point = gp.propose(axes, &history, Key::new(7).with(trial));
        let mut settled = point.clone();
        axes.settle(&mut settled);
        assert_eq!(bits(&settled), bits(&point), "{trial}");
        assert!(axes.allows(&point), "{trial}: {point:?}");
        let status = status(trial, &point);
        history.begun(point);
        history.ended(trial as usize, status);
    }
    history
}

fn different(history: &History) -> usize {
    let points = history.trials.iter().map(|past| bits(&past.point));
    points.collect::<BTreeSet<_>>().len()
}

#[test]
fn a_bowls_bottom_is_found() {
    let axes = axes(&json!({"x": double(), "y": double(), "z": double()}));
    let history = run(&axes, 30, |_, point| Status::Done(bowl(point)));
    let best = history
        .done()
        .map(|(_, cost)| cost)
        .fold(f64::MAX, f64::min);
    assert!(best < 1e-6, "{best}");
}

#[test]
fn a_mixed_spaces_bottom_is_found() {
    let axes = mixed();
    let cost = |point: &[f64]| {
        let other = if axes.axes()[3].cell(point[3]) == 1 {
            0.0
        } else {
            0.5
        };
        let (lr, units) = (point[0] - 0.3, point[1] - 0.6);
        other + lr * lr + units * units + 0.1 * (point[2] - 0.4).abs()
    };
    let history = run(&axes, 60, |_, point| Status::Done(cost(point)));
    let best = history
        .done()
        .map(|(_, cost)| cost)
        .fold(f64::MAX, f64::min);
    assert!(best < 3e-3, "{best}");
    assert_eq!(different(&history), 60);
}

#[test]
fn a_finite_space_is_used_up_without_repetition_and_then_repeated() {
    let axes = axes(&json!({
        "n": {"type": "int", "minval": 1, "maxval": 10},
        "flag": {"type": "categorical", "vals": ["a", "b", "c"]},
        "m": {"type": "int", "minval": 1, "maxval": 2, "when": {"flag": "a"}},
    }));
    let history = run(&axes, 45, |trial, point| match trial % 5 {
        0 => Status::Pending,
        _ => Status::Done(point[0]),
    });
    assert_eq!(different(&history), 40);
    let mut first = History::default();
    for (trial, past) in history.trials[..40].iter().enumerate() {
        first.begun(past.point.clone());
        first.ended(trial, past.status);
    }
    assert_eq!(different(&first), 40);
}

#[test]
fn a_batch_proposed_at_once_differs_and_spreads() {
    let axes = axes(&json!({"x": double(), "y": double()}));
    let status = |trial: u64, point: &[f64]| match trial {
        0..8 => Status::Done(libm::sin(9.0 * point[0]) * libm::cos(7.0 * point[1])),
        _ => Status::Pending,
    };
    let history = run(&axes, 16, status);
    let pending: Vec<&[f64]> = history.trials[8..]
        .iter()
        .map(|p| p.point.as_slice())
        .collect();
    for (at, a) in pending.iter().enumerate() {
        for b in &pending[..at] {
            let apart: f64 = a.iter().zip(*b).map(|(a, b)| (a - b).abs()).sum();
            assert!(apart > 1e-2, "{a:?} {b:?}");
        }
    }
}

#[test]
fn constraints_hold() {
    let space: Space = serde_json::from_value(json!({"x": double(), "y": double()})).unwrap();
    let space = SearchSpace::new(&space).unwrap();
    let axes = Axes::new(space.constrained(&["x + y <= 0.4".to_owned()]).unwrap());
    let cost = |point: &[f64]| -(point[0] + 2.0 * point[1]);
    let history = run(&axes, 30, |_, point| Status::Done(cost(point)));
    let best = history
        .done()
        .map(|(_, cost)| cost)
        .fold(f64::MAX, f64::min);
    assert!(best < -0.79, "{best}");
}

#[test]
fn bad_trials_are_left_and_void_ones_are_not_held_against_a_place() {
    let axes = axes(&json!({"x": double(), "y": double()}));
    let status = |_: u64, point: &[f64]| match point[0] < 0.5 {
        true => Status::Bad,
        false => Status::Done(point[0] + point[1]),
    };
    let history = run(&axes, 40, status);
    let bad = |trials: &[super::super::history::Past]| {
        trials
            .iter()
            .filter(|past| past.status == Status::Bad)
            .count()
    };
    assert!(
        bad(&history.trials[20..]) <= 8,
        "{}",
        bad(&history.trials[20..])
    );
    let best = history
        .done()
        .map(|(_, cost)| cost)
        .fold(f64::MAX, f64::min);
    assert!(best < 0.53, "{best}");
    run(&axes, 20, |_, _| Status::Bad);
    run(&axes, 20, |_, _| Status::Void);
}

#[test]
fn strange_costs_and_spaces_are_no_trouble() {
    let one = axes(&json!({"x": double()}));
    let costs: [fn(u64, &[f64]) -> f64; 6] = [
        |_, _| 1.0,
        |trial, _| if trial % 2 == 0 { 1e300 } else { -1e300 },
        |trial, _| f64::MAX * (trial as f64 / 50.0 - 0.5),
        |_, point| point[0] * f64::MIN_POSITIVE,
        |trial, point| if trial == 3 { 1e300 } else { point[0] },
        |trial, _| trial as f64,
    ];
    for cost in costs {
        let history = run(&one, 25, |trial, point| Status::Done(cost(trial, point)));
        assert_eq!(different(&history), 25);
    }
    let fixed = axes(
        &json!({"x": {"type": "const", "val": 3}, "y": {"type": "int", "minval": 2, "maxval": 2}}),
    );
    for axes in [fixed, axes(&json!({}))] {
        let history = run(&axes, 12, |_, _| Status::Done(1.0));
        assert_eq!(different(&history), 1);
    }
}

#[test]
fn one_point_again_and_again_is_no_trouble() {
    let axes = axes(&json!({"x": double(), "y": double()}));
    let mut gp = Gp::new(&axes, 1_000);
    let mut history = History::default();
    for trial in 0..30 {
        let proposed = gp.propose(&axes, &history, Key::new(trial));
        assert!(trial == 0 || bits(&proposed) != bits(&[0.25, 0.75]));
        history.begun(vec![0.25, 0.75]);
        history.ended(trial as usize, Status::Done(trial as f64));
    }
}

#[test]
fn more_results_than_the_model_takes_are_thinned_out() {
    let axes = axes(&json!({"x": double(), "y": double()}));
    let mut gp = Gp::new(&axes, 30);
    let mut history = History::default();
    for trial in 0..120 {
        let point = gp.propose(&axes, &history, Key::new(1).with(trial));
        let cost = bowl(&point);
        history.begun(point);
        history.ended(trial as usize, Status::Done(cost));
        let rows = gp.posterior.as_ref().map_or(0, Posterior::rows);
        assert!(rows <= 30 + 120 / 16 + 1, "{rows}");
    }
    let best = history
        .done()
        .map(|(_, cost)| cost)
        .fold(f64::MAX, f64::min);
    assert!(best < 1e-4, "{best}");
}

/// The proposals of a search with eight workers.
fn workers(axes: &Axes, trials: usize) -> Vec<Vec<u64>> {
    let mut gp = Gp::new(axes, 1_000);
    let mut history = History::default();
    let key = Key::new(11);
    let mut proposals = Vec::new();
    for trial in 0..trials {
        if trial >= 8 {
            let running = (0..trial).filter(|at| history.trials[*at].status == Status::Pending);
            let running: Vec<usize> = running.collect();
            let ended = running[key.below(trial as u64, running.len() as u64) as usize];
            let status = match ended % 11 {
                3 => Status::Bad,
                7 => Status::Void,
                _ => Status::Done(bowl(&history.trials[ended].point)),
            };
            history.ended(ended, status);
        }
        let point = gp.propose(axes, &history, key.with(trial as u64));
        proposals.push(bits(&point));
        history.begun(point);
    }
    proposals
}

#[test]
fn a_replay_goes_on_as_the_search_did() {
    let axes = mixed();
    let whole = workers(&axes, 300);
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 300);
    for cut in [5, 9, 47, 133] {
        assert_eq!(workers(&axes, cut + 3), whole[..cut + 3]);
    }
}

#[test]
fn a_shorter_history_begins_anew() {
    let axes = mixed();
    let history = run(&axes, 20, |_, point| Status::Done(bowl(point)));
    let mut gp = Gp::new(&axes, 1_000);
    gp.propose(&axes, &history, Key::new(3));
    let short = History::default();
    let again = gp.propose(&axes, &short, Key::new(4));
    let fresh = Gp::new(&axes, 1_000).propose(&axes, &short, Key::new(4));
    assert_eq!(bits(&again), bits(&fresh));
}

#[test]
fn proposals_are_the_same_on_every_machine() {
    let axes = mixed();
    let history = run(&axes, 24, |_, point| Status::Done(bowl(point)));
    let last = bits(&history.trials[23].point);
    assert_eq!(last, GOLDEN, "{last:?}");
}

/// The last point of 24.
const GOLDEN: [u64; 7] = [
    4598716741677553897,
    4599093709687417914,
    4600427019358961664,
    4595172819793696085,
    4599004788884586784,
    4604930618986332160,
    4602678819172646912,
];

#[test]
fn taking_over_a_proposal_leaves_the_state_that_making_it_does() {
    let axes = mixed();
    let key = Key::new(5);
    let (mut live, mut again) = (Gp::new(&axes, 30), Gp::new(&axes, 30));
    let mut history = History::default();
    for trial in 0..90u64 {
        let its = key.with(trial);
        let point = live.propose(&axes, &history, its);
        // Most are taken over, some made again.
        if key.unit(trial) < 0.7 && trial < 80 {
            again.adopt(&axes, &history, its);
        } else {
            let same = again.propose(&axes, &history, its);
            assert_eq!(bits(&same), bits(&point), "{trial}");
        }
        history.begun(point);
        // Results come in another order.
        if trial >= 4 {
            let ended = (trial - 4 + 2 * (trial % 2)) as usize;
            let status = match ended % 7 {
                3 => Status::Bad,
                5 => Status::Void,
                _ => Status::Done(bowl(&history.trials[ended].point)),
            };
            history.ended(ended, status);
        }
    }
}
