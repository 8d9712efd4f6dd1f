//! Boxes hold all that meets the constraints, and parts are drawn by their size.

use serde_json::{Value, json};

use super::cover::Cover;
use super::place::Frame;
use crate::rng::Key;
use crate::space::SearchSpace;
use crate::spec::{Params, Space};

const DRAWS: u64 = 2_000;

fn space(parameters: Value, constraints: &[&str]) -> SearchSpace {
    let parameters: Space = serde_json::from_value(parameters).unwrap();
    let constraints: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
    SearchSpace::new(&parameters)
        .unwrap()
        .constrained(&constraints)
        .unwrap()
}

fn several() -> Value {
    json!({
        "a": {"type": "double", "minval": -2, "maxval": 3},
        "b": {"type": "double", "minval": 1e-4, "maxval": 10, "log": true},
        "c": {"type": "double", "minval": 0, "maxval": 1, "step": 0.1},
        "i": {"type": "int", "minval": -5, "maxval": 20},
        "j": {"type": "int", "minval": 1, "maxval": 512, "log": true},
        "k": {"type": "int", "minval": 0, "maxval": 96, "step": 8},
        "s": {"type": "categorical", "vals": ["x", "y", "z", "w"]},
        "n": {"type": "ordinal", "vals": [1, 2, 4, 8]},
        "t": {"type": "categorical", "vals": [true, false]},
        "m": {"type": "categorical", "vals": [1, "auto", 2.5]},
        "d": {"type": "double", "minval": 0, "maxval": 1, "when": {"s": ["x", "z"]}},
        "e": {"type": "int", "minval": 0, "maxval": 9, "when": {"s": "x", "t": true}},
        "f": {"type": "const", "val": 3},
    })
}

/// What meets the constraints of draws of the whole space is in a box, whatever constraints ask.
#[test]
fn nothing_that_meets_the_constraints_is_left_out() {
    let cases: &[&[&str]] = &[
        &["a + b <= 1", "a * b > 0.2"],
        &["a - b < -1 or a / b > 4"],
        &["a / (i + 2) >= 0.1"],
        &["i / j <= 0.01", "j * k <= 300"],
        &["abs(a) >= 1.5", "not (i < 3)"],
        &["not (a / i < 1)"],
        &["sqrt(a) > 1", "log10(b) < -2 or log2(j) >= 5"],
        &["exp(a) <= 0.5", "log(b) >= -1"],
        &["min(a, b) >= 0.5", "max(i, k) <= 9"],
        &["min(log(a), b) >= 0.5"],
        &["max(sqrt(a), c) <= 0.6"],
        &["round(a) == 2", "floor(b) != 0", "ceil(c * 10) <= 4"],
        &["i % 3 == 1", "j % 2 == 0"],
        &["a ** 2 <= 0.5", "b ** 0.5 >= 1", "2 ** i <= 8"],
        &["s == 'x' and i > 4 or s != 'y' and i < 0"],
        &["s in ['y', 'w'] or c >= 0.8", "n in [2, 8]"],
        &["n * c <= 0.5", "n >= 2"],
        &["t", "not (t and i > 4)"],
        &["t or a > 0"],
        &["m == 1 or m == 'auto'"],
        &["d <= 0.2", "e >= 7"],
        &["d + a <= 0", "e * 0.1 >= d"],
        &["d > 0.9 or e < 2", "s != 'z'"],
        &["1 < a <= 2", "0 <= i < 5 < k"],
        &["i == k", "c == 0.3"],
        &["f * a <= 1", "i + j + k + n == 20"],
        &["-a >= 1", "-(i - 3) > 2"],
        &["0.1 + c == 0.3", "c + c <= 0.6"],
        &[
            "a <= 1 or a >= 2 or i == 3 or j == 5 or k == 8 or c == 0.5",
            "b <= 1 or i > 0",
            "a <= 0 or j > 2 or t",
        ],
    ];
    let mut met = 0;
    for (at, constraints) in cases.iter().enumerate() {
        let space = space(several(), constraints);
        let frame = Frame::new(&space, Key::new(1));
        let everything = Cover::everything(space.parameters().len());
        for draw in 0..DRAWS {
            let mut draws = super::draws::Draws::new(Key::new(at as u64).with(draw));
            let place = frame.at(&space, everything.draw(&mut draws));
            if place.missed() == 0.0 {
                assert!(
                    frame.cover.box_of(&place.coordinates).is_some(),
                    "{constraints:?}: {:?}",
                    place.params(&space)
                );
                met += 1;
            }
        }
    }
    // All but a few of the cases are met by many draws.
    assert!(met > DRAWS * 5, "{met}");
}

fn share(draws: &[Params], is: impl Fn(&Params) -> bool) -> f64 {
    draws.iter().filter(|params| is(params)).count() as f64 / draws.len() as f64
}

fn drawn(space: &SearchSpace) -> Vec<Params> {
    let draws = (0..DRAWS).map(|draw| space.sample_rare(Key::new(8).with(draw)).unwrap());
    let draws: Vec<Params> = draws.collect();
    for params in &draws {
        space.contains(params).unwrap();
    }
    draws
}

/// Of 2,000 draws a share of a half is found with a standard deviation of 0.011.
const NEAR: f64 = 0.05;

#[test]
fn far_parts_have_their_sizes_at_one_in_a_billion() {
    let parameters = json!({
        "x": {"type": "double", "minval": 0, "maxval": 1},
        "y": {"type": "double", "minval": 0, "maxval": 1000},
        "z": {"type": "double", "minval": 1e-4, "maxval": 1, "log": true},
    });
    // 2e-3 * 1e-3 * (2.5e-4 of four decades) and half as much.
    let parts = "0.3 < x < 0.302 and 7 <= y <= 8 and 0.01 <= z <= 0.010023053 or x > 0.999 and 900 < y < 901 and \
                 0.5 <= z <= 0.501152629";
    let space = space(parameters, &[parts]);
    let found = space.allowed_share().unwrap();
    assert!((found / 7.5e-10 - 1.0).abs() < 0.02, "{found}");
    let draws = drawn(&space);
    let first = share(&draws, |params| params["x"].as_f64().unwrap() < 0.5);
    assert!((first - 2.0 / 3.0).abs() < NEAR, "{first}");
}

#[test]
fn each_choice_has_the_share_of_what_its_own_constraints_leave() {
    let unit =
        |kind: &str| json!({"type": "double", "minval": 0, "maxval": 1, "when": {"kind": kind}});
    let parameters = json!({
        "kind": {"type": "categorical", "vals": ["sum", "ratio", "count"]},
        "u": unit("sum"), "v": unit("sum"), "p": unit("ratio"), "q": unit("ratio"),
        "i": {"type": "int", "minval": 0, "maxval": 999, "when": {"kind": "count"}},
        "j": {"type": "int", "minval": 0, "maxval": 999, "when": {"kind": "count"}},
        "k": {"type": "int", "minval": 0, "maxval": 999, "when": {"kind": "count"}},
    });
    // 5e-9, 5e-9 and 10 of 10^9.
    let space = space(
        parameters,
        &["u + v <= 1e-4", "p <= 1e-8 * q", "i + j + k <= 2"],
    );
    let found = space.allowed_share().unwrap();
    assert!((found / (2e-8 / 3.0) - 1.0).abs() < 0.1, "{found}");
    let draws = drawn(&space);
    for (kind, wanted) in [("sum", 0.25), ("ratio", 0.25), ("count", 0.5)] {
        let found = share(&draws, |params| params["kind"] == kind);
        assert!((found - wanted).abs() < NEAR, "{kind}: {found}");
    }
}

/// Two boxes share a quarter of what they hold together, which counts once.
#[test]
fn what_several_boxes_hold_is_drawn_once() {
    let unit = json!({"type": "double", "minval": 0, "maxval": 1});
    let parts = "x <= 0.0001 and y <= 0.00005 or x <= 0.00005 and y <= 0.0001";
    let space = space(json!({"x": unit, "y": unit}), &[parts]);
    let found = space.allowed_share().unwrap();
    assert!((found / 7.5e-9 - 1.0).abs() < 0.1, "{found}");
    let both = |params: &Params| {
        ["x", "y"]
            .iter()
            .all(|name| params[*name].as_f64().unwrap() <= 5e-5)
    };
    let found = share(&drawn(&space), both);
    assert!((found - 1.0 / 3.0).abs() < NEAR, "{found}");
}

/// Where boxes help and are not enough: an order within each of two far parts, of which one is eight times the other.
#[test]
fn moves_begin_in_the_boxes() {
    let unit = json!({"type": "double", "minval": 0, "maxval": 1});
    let parameters: serde_json::Map<String, Value> =
        (0..7).map(|at| (format!("x{at}"), unit.clone())).collect();
    let order: Vec<String> = (1..7).map(|at| format!("x{} < x{at}", at - 1)).collect();
    let mut constraints: Vec<&str> = order.iter().map(String::as_str).collect();
    constraints.push("x6 < 0.4 or x0 > 0.5");
    let space = space(Value::Object(parameters), &constraints);
    // A part has a side of 0.4 or 0.5, to the seventh power, and one order of 5,040.
    let (small, large) = (libm::pow(0.4, 7.0) / 5040.0, libm::pow(0.5, 7.0) / 5040.0);
    let found = space.allowed_share().unwrap();
    assert!(
        found / (small + large) > 0.6 && found / (small + large) < 1.6,
        "{found}"
    );
    let found = share(&drawn(&space), |params| {
        params["x0"].as_f64().unwrap() > 0.5
    });
    assert!((found - large / (small + large)).abs() < 0.15, "{found}");
}

#[test]
fn very_many_alternatives_are_covered_and_not_told_apart() {
    let digit = json!({"type": "int", "minval": 0, "maxval": 99});
    let names = ["a", "b", "c", "d", "e"];
    let parameters: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), digit.clone()))
        .collect();
    let odd: Vec<String> = (0..50).map(|at| (2 * at + 1).to_string()).collect();
    let constraints: Vec<String> = names
        .iter()
        .map(|name| format!("{name} in [{}]", odd.join(", ")))
        .collect();
    let constraints: Vec<&str> = constraints.iter().map(String::as_str).collect();
    let space = space(Value::Object(parameters), &constraints);
    let found = drawn(&space);
    assert_eq!(found.len() as u64, DRAWS);
}

/// Each choice has a box of its own, and moves lead from one to the other.
#[test]
fn boxes_that_touch_are_one_to_moves() {
    let unit = json!({"type": "double", "minval": 0, "maxval": 1});
    let mut parameters: serde_json::Map<String, Value> =
        (0..9).map(|at| (format!("x{at}"), unit.clone())).collect();
    let kinds = ["a", "b", "c", "d"];
    parameters.insert(
        "kind".to_owned(),
        json!({"type": "categorical", "vals": kinds}),
    );
    let order: Vec<String> = (1..9).map(|at| format!("x{} < x{at}", at - 1)).collect();
    let mut constraints: Vec<&str> = order.iter().map(String::as_str).collect();
    constraints.extend(["kind != 'b' or x0 <= 0.05", "kind != 'c' or x8 >= 0.9"]);
    let space = space(Value::Object(parameters), &constraints);
    let draws = drawn(&space);
    // The least of nine is below 0.05, or the greatest above 0.9.
    let sizes = [
        1.0,
        1.0 - libm::pow(0.95, 9.0),
        1.0 - libm::pow(0.9, 9.0),
        1.0,
    ];
    for (kind, size) in kinds.iter().zip(sizes) {
        let found = share(&draws, |params| params["kind"] == *kind);
        let wanted = size / sizes.iter().sum::<f64>();
        assert!(
            (found - wanted).abs() < 0.04,
            "{kind}: {found} for {wanted}"
        );
    }
}
