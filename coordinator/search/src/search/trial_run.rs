//! For tests of searchers: spaces, and searches that are run, recorded and replayed.

use serde_json::{Value, json};
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Space;

use super::axes::Axes;
use super::history::{History, Status};

pub(super) type Propose<'a> = dyn FnMut(&Axes, &History, Key) -> Vec<f64> + 'a;

pub(super) fn axes(space: Value) -> Axes {
    constrained(space, &[])
}

pub(super) fn constrained(space: Value, constraints: &[&str]) -> Axes {
    let space: Space = serde_json::from_value(space).unwrap();
    let constraints: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
    Axes::new(
        SearchSpace::new(&space)
            .unwrap()
            .constrained(&constraints)
            .unwrap(),
    )
}

/// The unit cube.
pub(super) fn cube(count: usize) -> Axes {
    let named = (0..count).map(|axis| {
        let axis = format!("x{axis}");
        (axis, json!({"type": "double", "minval": 0, "maxval": 1}))
    });
    axes(Value::Object(named.collect()))
}

/// Every kind of axis, and conditional ones.
pub(super) fn every_kind() -> Axes {
    axes(json!({
        "lr": {"type": "double", "minval": 1e-5, "maxval": 1.0, "log": true},
        "units": {"type": "int", "minval": 1, "maxval": 500, "log": true},
        "layers": {"type": "int", "minval": 1, "maxval": 8},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam", "rmsprop"]},
        "momentum": {"type": "double", "minval": 0, "maxval": 0.99, "when": {"optimizer": "sgd"}},
        "nesterov": {"type": "boolean", "when": {"optimizer": "sgd"}},
        "warmup": {"type": "int", "minval": 0, "maxval": 20, "when": {"optimizer": ["adam", "rmsprop"]}},
        "fixed": {"type": "const", "val": 3},
    }))
}

/// A cost over the coordinates of any space; inactive ones cost something of their own.
pub(super) fn bowl(point: &[f64]) -> f64 {
    let terms = point.iter().zip(1..);
    terms.fold(0.0, |sum, (x, axis)| {
        let from = if x.is_nan() {
            0.2
        } else {
            x - 0.3 - 0.05 * f64::from(axis)
        };
        sum + from * from
    })
}

/// What happened, in order: a trial was begun, or one ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    Begun,
    Ended(usize, Status),
}

/// Runs a search with several workers, who end in a mixed-up order, to so many trials begun. Now and then one
/// ends without a result, or badly.
pub(super) fn record(
    axes: &Axes,
    propose: &mut Propose,
    workers: usize,
    trials: usize,
    cost: &dyn Fn(&[f64]) -> f64,
) -> (History, Vec<Event>) {
    let order = Key::new(99);
    let (mut history, mut events) = (History::default(), Vec::new());
    let mut running: Vec<usize> = Vec::new();
    while history.trials.len() < trials {
        let trial = history.trials.len();
        begin(axes, &mut history, propose);
        events.push(Event::Begun);
        running.push(trial);
        if running.len() < workers {
            continue;
        }
        let ended = running.remove(order.below(trial as u64, workers as u64) as usize);
        let status = match order.with(1).below(ended as u64, 20) {
            0 => Status::Bad,
            1 => Status::Void,
            _ => Status::Done(cost(&history.trials[ended].point)),
        };
        history.ended(ended, status);
        events.push(Event::Ended(ended, status));
    }
    (history, events)
}

/// The same calls again, of which the first so many.
pub(super) fn replay(axes: &Axes, propose: &mut Propose, events: &[Event]) -> History {
    let mut history = History::default();
    for event in events {
        match event {
            Event::Begun => begin(axes, &mut history, propose),
            Event::Ended(trial, status) => history.ended(*trial, *status),
        }
    }
    history
}

fn begin(axes: &Axes, history: &mut History, propose: &mut Propose) {
    let key = Key::new(5).with(history.trials.len() as u64);
    let point = propose(axes, history, key);
    assert_settled(axes, &point);
    history.begun(point);
}

/// A proposal is a settled point.
fn assert_settled(axes: &Axes, point: &[f64]) {
    let mut settled = point.to_vec();
    axes.settle(&mut settled);
    assert_eq!(bits(point), bits(&settled), "{point:?}");
}

pub(super) fn bits(point: &[f64]) -> Vec<u64> {
    point.iter().map(|x| x.to_bits()).collect()
}

/// All proposals as one number.
pub(super) fn fingerprint(history: &History) -> u64 {
    let bits = history.trials.iter().flat_map(|past| bits(&past.point));
    bits.fold(0, |hash, bits| trainyard_common::rng::mix(hash ^ bits))
}

/// The lowest cost of trials with one.
pub(super) fn lowest(history: &History) -> f64 {
    history
        .done()
        .fold(f64::INFINITY, |best, (_, cost)| best.min(cost))
}

/// What every searcher must do on every space; `fresh` makes one.
pub(super) fn behaves(fresh: &dyn Fn(&Axes) -> Box<Propose<'static>>) {
    never_fails(fresh);
    replays(fresh);
    keeps_constraints(fresh);
}

/// Of a searcher that ranks: costs in the same order lead to the same points.
pub(super) fn heeds_order_alone(fresh: &dyn Fn(&Axes) -> Box<Propose<'static>>) {
    let axes = every_kind();
    let stretched = |point: &[f64]| {
        let cost = bowl(point);
        1e6 * cost * cost * cost - 1e9
    };
    let (plain, _) = record(&axes, &mut *fresh(&axes), 4, 300, &bowl);
    let (other, _) = record(&axes, &mut *fresh(&axes), 4, 300, &stretched);
    assert_eq!(fingerprint(&plain), fingerprint(&other));
}

fn never_fails(fresh: &dyn Fn(&Axes) -> Box<Propose<'static>>) {
    let spaces = [
        axes(json!({})),
        axes(
            json!({"a": {"type": "const", "val": 1}, "b": {"type": "int", "minval": 4, "maxval": 4}}),
        ),
        cube(1),
        axes(json!({"a": {"type": "boolean"}})),
        axes(json!({"a": {"type": "int", "minval": 1, "maxval": 3}})),
        every_kind(),
    ];
    let costs: [fn(&[f64]) -> f64; 4] = [
        |_| 1e300,
        |point| if bowl(point) > 0.1 { 1e300 } else { -1e300 },
        |point| f64::MAX * (bowl(point) - 1.0).clamp(-1.0, 1.0),
        |_| 0.0,
    ];
    for axes in &spaces {
        for cost in &costs {
            let (history, _) = record(axes, &mut *fresh(axes), 3, 120, cost);
            assert_eq!(history.trials.len(), 120);
        }
        for status in [Status::Bad, Status::Void, Status::Pending] {
            let (mut history, mut propose) = (History::default(), fresh(axes));
            for trial in 0..60 {
                begin(axes, &mut history, &mut *propose);
                history.ended(trial, status);
            }
        }
    }
}

fn replays(fresh: &dyn Fn(&Axes) -> Box<Propose<'static>>) {
    let axes = every_kind();
    let (whole, events) = record(&axes, &mut *fresh(&axes), 5, 300, &bowl);
    for cut in 0..6 {
        let length = Key::new(17).below(cut, events.len() as u64) as usize;
        let mut propose = fresh(&axes);
        let mut part = replay(&axes, &mut *propose, &events[..length]);
        // And on, live.
        for event in &events[length..] {
            match event {
                Event::Begun => begin(&axes, &mut part, &mut *propose),
                Event::Ended(trial, status) => part.ended(*trial, *status),
            }
        }
        assert_eq!(fingerprint(&part), fingerprint(&whole), "cut at {length}");
    }
}

fn keeps_constraints(fresh: &dyn Fn(&Axes) -> Box<Propose<'static>>) {
    let space = json!({
        "a": {"type": "double", "minval": 0, "maxval": 1},
        "b": {"type": "double", "minval": 0, "maxval": 1},
        "c": {"type": "categorical", "vals": ["x", "y"]},
    });
    // The lowest cost lies outside.
    let axes = constrained(space, &["a + b <= 0.4", "c == 'y'"]);
    let cost = |point: &[f64]| 3.0 - point[0] - point[1] + point[2];
    let (history, _) = record(&axes, &mut *fresh(&axes), 2, 150, &cost);
    let kept = |past: &&super::history::Past| axes.allows(&past.point);
    assert_eq!(history.trials.iter().filter(kept).count(), 150);
    assert!(lowest(&history) < 3.38, "{}", lowest(&history));
}
