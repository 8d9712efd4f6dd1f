use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn space(value: Value) -> Space {
    serde_json::from_value(value).unwrap()
}

fn checked(value: Value) -> SearchSpace {
    SearchSpace::new(&space(value)).unwrap()
}

fn errors(value: Value) -> Vec<String> {
    SearchSpace::new(&space(value))
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn conditional() -> SearchSpace {
    // `deep` comes before its parent: the order of the spec is kept in configurations all the same.
    checked(json!({
        "deep": {"type": "int", "minval": 1, "maxval": 3, "when": {"optimizer": ["sgd"], "layers": 2}},
        "optimizer": {"type": "categorical", "vals": ["adam", "sgd"]},
        "layers": {"type": "int", "minval": 1, "maxval": 1000, "when": {"optimizer": "sgd"}},
        "rate": {"type": "double", "minval": 0.1, "maxval": 0.5, "step": 0.1},
        "fixed": {"type": "const", "val": 7},
    }))
}

#[test]
fn errors_name_the_field_and_what_is_accepted() {
    for (given, expected) in [
        (
            json!({"lr": {"type": "double", "minval": 1.0, "maxval": 0.1}}),
            "hyperparameters.lr.maxval: 0.1 is below minval 1; accepted are numbers from minval on",
        ),
        (
            json!({"lr": {"type": "double", "minval": -4, "maxval": -1, "log": true}}),
            "hyperparameters.lr.minval: -4 given; with `log` accepted are numbers above 0 (the value itself, not its exponent)",
        ),
        (
            json!({"n": {"type": "int", "minval": 1.5, "maxval": 4}}),
            "hyperparameters.n.minval: 1.5 given; accepted for an int are whole numbers (at most 2^53)",
        ),
        (
            json!({"n": {"type": "int", "minval": 1, "maxval": 4, "step": 0}}),
            "hyperparameters.n.step: 0 given; accepted are whole numbers from 1 to maxval - minval = 3",
        ),
        (
            json!({"n": {"type": "int", "minval": 1}}),
            "hyperparameters.n.maxval: missing; a double or int needs `minval` and `maxval`, both finite numbers",
        ),
        (
            json!({"c": {"type": "categorical", "vals": []}}),
            "hyperparameters.c.vals: 0 values; needed is a list of 1 to 1000000 values",
        ),
        (
            json!({"c": {"type": "categorical", "vals": [1, 2, 1.0]}}),
            "hyperparameters.c.vals[2]: 1.0 is there already, at hyperparameters.c.vals[0]; accepted are different values",
        ),
        (
            json!({"c": {"type": "const", "vals": [1], "val": 2}}),
            "hyperparameters.c.vals: not a field of a const; accepted are val, when",
        ),
        (
            json!({"c": {"type": "const", "val": 2, "when": {"other": 1}}, "othr": {"type": "const", "val": 1}}),
            "hyperparameters.c.when.other: there is no hyperparameter `other`; did you mean `othr`?",
        ),
        (
            json!({"c": {"type": "const", "val": 2, "when": {"p": 9}}, "p": {"type": "int", "minval": 1, "maxval": 3}}),
            "hyperparameters.c.when.p: `p` is never 9; accepted are values of 1 to 3, whole",
        ),
        (
            json!({"a": {"type": "const", "val": 1, "when": {"b": 1}}, "b": {"type": "const", "val": 1, "when": {"a": 1}}}),
            "hyperparameters.a.when: conditions go in a circle among `a`, `b`; a hyperparameter may not depend on itself",
        ),
        (
            json!({"1x": {"type": "const", "val": 1}}),
            "hyperparameters.1x: the name `1x` does not fit; accepted are letters, digits, `_`, `-` and `.`, beginning with a letter or `_`, at most 63",
        ),
    ] {
        assert_eq!(errors(given), [expected]);
    }
}

#[test]
fn all_errors_come_at_once() {
    let found = errors(json!({
        "a": {"type": "double", "minval": 2, "maxval": 1},
        "b": {"type": "categorical"},
        "c": {"type": "int", "minval": 1, "maxval": 2, "count": 3},
    }));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_grid_counts_what_it_lists() {
    for (space, expected) in [
        // adam: 1; sgd: 1000 layers, of which one has three depths. Times five rates.
        (conditional(), (1 + 999 + 3) * 5),
        (
            checked(json!({
                "lr": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": true, "count": 4},
                "n": {"type": "int", "minval": 16, "maxval": 64, "step": 16},
                "flag": {"type": "categorical", "vals": [true, false]},
            })),
            32,
        ),
        (checked(json!({})), 1),
    ] {
        let all: Vec<Params> = space.grid().unwrap().collect();
        let different: BTreeSet<String> =
            all.iter().map(|params| space.fingerprint(params)).collect();
        assert_eq!(space.grid_len(), Some(expected));
        assert_eq!(all.len() as u128, expected);
        assert_eq!(different.len(), all.len());
        for params in &all {
            space.contains(params).unwrap();
        }
    }
}

#[test]
fn grid_points_are_tidy_and_in_order() {
    let space = checked(json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": true, "count": 4},
        "rate": {"type": "double", "minval": 0.1, "maxval": 0.35, "step": 0.1},
    }));
    let all: Vec<Value> = space.grid().unwrap().map(Value::Object).collect();
    assert_eq!(all.len(), 12);
    assert_eq!(all[0], json!({"lr": 0.0001, "rate": 0.1}));
    assert_eq!(all[2], json!({"lr": 0.0001, "rate": 0.3}));
    assert_eq!(all[3], json!({"lr": 0.001, "rate": 0.1}));
    assert_eq!(all[11], json!({"lr": 0.1, "rate": 0.3}));
    assert_eq!(
        space.parameters()[1].domain.unreached_max(),
        Some(json!(0.3))
    );
}

#[test]
fn a_range_of_one_step_is_accepted_in_spite_of_rounding() {
    // 4.05 - 4.0 is a little less than 0.05.
    let space =
        checked(json!({"x": {"type": "double", "minval": 4.0, "maxval": 4.05, "step": 0.05}}));
    assert_eq!(space.cardinality(), Some(2));
    assert_eq!(space.parameters()[0].domain.unreached_max(), None);
}

#[test]
fn a_grid_that_is_absurd_is_counted_without_listing_it() {
    let entries: serde_json::Map<String, Value> = (0..40)
        .map(|i| {
            (
                format!("p{i}"),
                json!({"type": "int", "minval": 1, "maxval": 1e15}),
            )
        })
        .collect();
    assert_eq!(
        checked(Value::Object(entries)).cardinality(),
        Some(u128::MAX)
    );
    let continuous = checked(json!({"x": {"type": "double", "minval": 0, "maxval": 1}}));
    assert_eq!(continuous.cardinality(), None);
    assert_eq!(
        continuous.grid().unwrap_err()[0].to_string(),
        "hyperparameters.x: a grid needs `count` (or `step`) for a double"
    );
}

#[test]
fn corners_hold_every_choice_and_both_ends() {
    let space = conditional();
    let corners = space.corners(100);
    for params in &corners {
        space.contains(params).unwrap();
    }
    let has = |name: &str, value: Value| {
        corners
            .iter()
            .any(|params| params.get(name) == Some(&value))
    };
    assert!(has("optimizer", json!("adam")) && has("optimizer", json!("sgd")));
    assert!(has("layers", json!(1)) && has("layers", json!(1000)));
    assert!(has("deep", json!(1)) && has("deep", json!(3)));
    assert!(has("rate", json!(0.1)) && has("rate", json!(0.5)));
    assert_eq!(
        Value::Object(space.first()),
        json!({"optimizer": "adam", "rate": 0.1, "fixed": 7})
    );
    assert_eq!(space.corners(2).len(), 2);
}

#[test]
fn contains_refuses_what_is_not_of_the_space() {
    let space = conditional();
    for (given, expected) in [
        (
            json!({"optimizer": "adam", "rate": 0.15, "fixed": 7}),
            "hyperparameters.rate: 0.15 is outside 0.1 to 0.5 in steps of 0.1",
        ),
        (
            json!({"optimizer": "adam", "layers": 1, "rate": 0.2, "fixed": 7}),
            "hyperparameters.layers: inactive in this configuration, but 1 was given",
        ),
        (
            json!({"optimizer": "adam", "rate": 0.2}),
            "hyperparameters.fixed: active, but no value was given",
        ),
        (
            json!({"other": 1}),
            "hyperparameters.other: there is no such hyperparameter",
        ),
    ] {
        let Value::Object(params) = given else {
            unreachable!()
        };
        assert_eq!(space.contains(&params).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_logarithmic_draw_is_even_over_decades() {
    let space = checked(json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": true},
        "n": {"type": "int", "minval": 1, "maxval": 1000, "log": true},
    }));
    let draws = 3_000u64;
    let mut decades = [0u32; 3];
    let mut small = 0u32;
    for i in 0..draws {
        let params = space.sample(Key::new(5).with(i));
        let lr = params["lr"].as_f64().unwrap();
        decades[if lr < 1e-3 {
            0
        } else if lr < 1e-2 {
            1
        } else {
            2
        }] += 1;
        small += u32::from(params["n"].as_i64().unwrap() <= 31);
    }
    // 1,000 expected with a standard deviation of 26; five of them.
    assert!(
        decades.iter().all(|&count| count.abs_diff(1_000) < 130),
        "{decades:?}"
    );
    // ln(31.5 / 0.5) / ln(1000.5 / 0.5) = 0.545 of 3,000; standard deviation 27.
    assert!(small.abs_diff(1_635) < 136, "{small}");
}

fn parameter() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1e6..1e6f64, 0.0..1e6f64)
            .prop_map(|(min, width)| json!({"type": "double", "minval": min, "maxval": min + width})),
        (1e-6..1.0f64, 1.0..1e6f64)
            .prop_map(|(min, ratio)| json!({"type": "double", "minval": min, "maxval": min * ratio, "log": true})),
        (-1000..1000i64, 1..50i64, 1..7i64).prop_map(|(min, count, step)| {
            json!({"type": "int", "minval": min, "maxval": min + count * step, "step": step})
        }),
        (1..100i64, 0..10_000i64)
            .prop_map(|(min, width)| json!({"type": "int", "minval": min, "maxval": min + width, "log": true})),
        (-100..100i64, 1..60i64, 1..9i64).prop_map(|(min, count, step)| {
            let (min, step) = (min as f64 / 10.0, step as f64 / 100.0);
            json!({"type": "double", "minval": min, "maxval": min + count as f64 * step, "step": step})
        }),
        (1..6usize).prop_map(|n| json!({"type": "categorical", "vals": (0..n).collect::<Vec<_>>()})),
    ]
}

fn fixed() -> ProptestConfig {
    ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(4),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fixed())]

    #[test]
    fn draws_are_in_range_and_conditions_are_honoured(
        parameters in prop::collection::vec(parameter(), 1..6), seed: u64, wanted in 0..3i64,
    ) {
        let mut entries: serde_json::Map<String, Value> = parameters
            .into_iter()
            .enumerate()
            .map(|(i, parameter)| (format!("p{i}"), parameter))
            .collect();
        entries.insert("kind".into(), json!({"type": "categorical", "vals": [0, 1, 2]}));
        entries["p0"]["when"] = json!({"kind": wanted});
        let space = checked(Value::Object(entries));
        for i in 0..20 {
            let params = space.sample(Key::new(seed).with(i));
            prop_assert!(space.contains(&params).is_ok(), "{:?}", space.contains(&params));
            prop_assert_eq!(params.contains_key("p0"), params["kind"] == json!(wanted));
            prop_assert_eq!(&params, &space.sample(Key::new(seed).with(i)));
        }
        for params in space.corners(50) {
            prop_assert!(space.contains(&params).is_ok(), "{:?}", space.contains(&params));
        }
    }
}

fn with_constraints(space: Value, constraints: &[&str]) -> Result<SearchSpace, Vec<SpecError>> {
    let space: Space = serde_json::from_value(space).unwrap();
    let texts: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
    SearchSpace::new(&space).unwrap().constrained(&texts)
}

fn network() -> Value {
    json!({
        "layers": {"type": "int", "minval": 1, "maxval": 4},
        "units": {"type": "int", "minval": 8, "maxval": 32, "step": 8},
        "rate": {"type": "double", "minval": 0.0, "maxval": 0.9},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
        "momentum": {"type": "double", "minval": 0.0, "maxval": 1.0, "when": {"optimizer": "sgd"}},
        "size": {"type": "ordinal", "vals": ["small", "large"]},
        "fast": {"type": "boolean"},
        "batch-size": {"type": "int", "minval": 1, "maxval": 512, "log": true},
    })
}

#[test]
fn constraints_are_what_they_say() {
    let params = json!({
        "layers": 3, "units": 16, "rate": 0.5, "optimizer": "adam", "size": "small", "fast": true,
        "batch-size": 64,
    });
    let params = params.as_object().unwrap();
    for (text, holds) in [
        ("layers * units <= 48", true),
        ("layers * units < 48", false),
        ("layers + 2 * units == 35", true),
        ("(layers + 2) * units = 80", true),
        ("units / layers > 5.3 and units / layers < 5.4", true),
        ("-layers ** 2 == -9", true),
        ("2 ^ -1 == rate", true),
        ("2 ** layers ** 2 == 512", true),
        ("-7 % layers == 2", true),
        ("1 < layers <= 3", true),
        ("1 < layers <= 2", false),
        ("1 <= 2 <= 3 and layers > 0", true),
        ("optimizer == 'adam'", true),
        ("optimizer != \"adam\" or fast", true),
        ("not fast", false),
        ("!(optimizer = 'sgd') && fast == true", true),
        ("size in ['small', 'medium'] and layers in [1, 3]", true),
        ("layers not in [1, 3]", false),
        ("max(layers, units) == 16 and min(layers, units) == 3", true),
        (
            "log2(`batch-size`) == 6 and sqrt(units) == 4 and abs(-layers) == 3",
            true,
        ),
        (
            "floor(rate) == 0 and ceil(rate) == 1 and round(2.4) == 2",
            true,
        ),
        // Operands of a chain stand once, and each comparison is of its two.
        ("1 < layers < 4 == 4 <= units", true),
        ("fast == (layers in [3]) == fast", true),
        ("layers in [3] == fast", true),
        ("layers in [2] == fast", false),
        ("layers in [1, 3] in [true]", true),
        ("size not in ['large'] == (units > layers > 2)", true),
        ("2 < layers not in [4, 5] == true", true),
        ("optimizer == 'adam' != 'sgd'", true),
        // What arithmetic cannot give is no number, and is the same as another of its kind.
        ("1 / (layers - 3) == -1 / (layers - 3)", true),
        ("1 / (layers - 3) > 1000", true),
        ("log(-layers) == sqrt(-units)", true),
        ("log(-layers) == layers", false),
        // Its `momentum` is inactive.
        ("momentum > 2", true),
        ("log(-layers) <= 0", false),
    ] {
        let space =
            with_constraints(network(), &[text]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(space.allows(params), holds, "{text}");
    }
}

/// Decimals are compared as people add them.
#[test]
fn sums_of_steps_are_what_they_are_on_paper() {
    let step = json!({"type": "double", "minval": 0, "maxval": 1, "step": 0.1});
    let space = json!({"a": step, "b": step, "c": step});
    for (text, count) in [
        ("a + b + c == 1", 66),
        ("a + b + c - 1 == 0", 66),
        ("a + b + c <= 1", 286),
        ("not (a + b + c > 1)", 286),
        ("a + b + c < 1", 220),
        ("a + b == 0.3", 4 * 11),
        ("a + b in [0.3]", 4 * 11),
        ("a + b != 0.3", 1331 - 4 * 11),
    ] {
        let space = with_constraints(space.clone(), &[text]).unwrap();
        assert_eq!(space.grid_len(), Some(count), "{text}");
    }
    // Whole numbers are exact, however large.
    let wide = json!({"type": "int", "minval": 9_000_000_000_000_000i64, "maxval": 9_000_000_000_000_009i64});
    let space = with_constraints(json!({"a": wide, "b": wide}), &["a < b"]).unwrap();
    assert_eq!(space.grid_len(), Some(45));
}

#[test]
fn a_wrong_constraint_is_explained() {
    for (text, reason) in [
        ("layers", "the whole is a number"),
        ("layers <", "ends where a value is expected"),
        (
            "layer <= 2",
            "there is no hyperparameter `layer`; did you mean `layers`?",
        ),
        (
            "optimizer == adam",
            "there is no hyperparameter `adam`; text stands in quotes",
        ),
        (
            "optimizer < 3",
            "`<` needs what is a number, and was given what is text",
        ),
        (
            "optimizer == 3",
            "`==` compares what is text with what is a number",
        ),
        (
            "layers in ['a']",
            "never among the values of what is a number",
        ),
        ("layers and fast", "`and` needs what is true or false"),
        ("size + 1 > 2", "`+` needs what is a number"),
        ("(layers > 2", "`)` expected at the end"),
        ("layers > 2 fast", "`fast` is not expected there"),
        ("layers > 1.2.3", "`1.2.3` is no number"),
        ("optimizer == 'adam", "' is opened and not closed"),
        (
            "ln(layers) > 1",
            "there is no function `ln`; accepted are abs",
        ),
        ("max(layers) > 1", "`max` takes 2 argument(s), 1 given"),
        ("1 < 2", "names no hyperparameter"),
        ("layers ; 2", "`;` is not expected there"),
        (
            &format!("{}layers > 1{}", "(".repeat(99), ")".repeat(99)),
            "nested deeper than 32",
        ),
        (
            &format!("{}fast", "not ".repeat(300)),
            "characters; accepted are at most 1000",
        ),
    ] {
        let errors = with_constraints(network(), &["layers > 0", text]).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].path, "constraints[1]");
        assert!(
            errors[0].message.contains(reason),
            "{text}: {}",
            errors[0].message
        );
    }
}

#[test]
fn a_grid_passes_over_what_constraints_forbid() {
    let space = json!({
        "a": {"type": "int", "minval": 1, "maxval": 4},
        "b": {"type": "int", "minval": 1, "maxval": 4},
    });
    let space = with_constraints(space, &["a < b"]).unwrap();
    assert_eq!((space.grid_len(), space.cardinality()), (Some(6), Some(6)));
    let grid: Vec<Params> = space.grid().unwrap().collect();
    assert_eq!(grid.len(), 6);
    assert!(grid.iter().all(|params| space.contains(params).is_ok()));
    let broken = json!({"a": 3, "b": 2});
    let error = space.contains(broken.as_object().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "constraints: `a < b` is not met");
    assert!(space.allows(space.first_allowed().unwrap()));
}

#[test]
fn names_may_have_dots() {
    let space = json!({
        "model.lr": {"type": "int", "minval": 1, "maxval": 3},
        "model.width-2": {"type": "int", "minval": 1, "maxval": 3},
    });
    let space = with_constraints(space, &["model.lr > 1.5", "`model.width-2` < model.lr"]).unwrap();
    assert_eq!(space.grid_len(), Some(3));
}

#[test]
fn what_cannot_be_met_is_found_out() {
    let space = with_constraints(network(), &["layers > 3", "layers < 3"]).unwrap();
    assert_eq!(space.first_allowed(), None);
    // One configuration of a million: draws miss it, the list does not.
    let wide = json!({
        "a": {"type": "int", "minval": 1, "maxval": 1000}, "b": {"type": "int", "minval": 1, "maxval": 1000},
    });
    let space = with_constraints(wide, &["a == 517", "b == 3"]).unwrap();
    assert_eq!(space.first_allowed().unwrap()["a"], 517);
}

#[test]
fn a_point_is_completed_from_the_middle() {
    let space = with_constraints(network(), &[]).unwrap();
    let given = json!({"layers": 4, "optimizer": "sgd"});
    let completed = space.completed(given.as_object().unwrap()).unwrap();
    let wanted = json!({
        "layers": 4, "units": 24, "rate": 0.45, "optimizer": "sgd", "momentum": 0.5, "size": "large",
        "fast": false, "batch-size": 16,
    });
    assert_eq!(Value::Object(completed), wanted);
    for (given, error) in [
        (
            json!({"layers": 9}),
            "hyperparameters.layers: 9 is outside 1 to 4, whole",
        ),
        (
            json!({"depth": 9}),
            "hyperparameters.depth: there is no such hyperparameter",
        ),
        (
            json!({"optimizer": "adam", "momentum": 0.1}),
            "hyperparameters.momentum: inactive",
        ),
    ] {
        let found = space.completed(given.as_object().unwrap()).unwrap_err();
        assert!(found.to_string().starts_with(error), "{found}");
    }
}

#[test]
fn a_value_s_share_gives_it_again() {
    let space = with_constraints(network(), &[]).unwrap();
    for seed in 0..500 {
        let params = space.sample(Key::new(seed));
        for parameter in space.parameters() {
            let Some(value) = params.get(&parameter.name) else {
                continue;
            };
            let share = parameter.domain.share(value).unwrap();
            let again = parameter.domain.at(share);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(1.0);
            let same = match (value.as_f64(), again.as_f64()) {
                (Some(a), Some(b)) => close(a, b),
                _ => *value == again,
            };
            assert!(same, "{}: {value} {again}", parameter.name);
        }
    }
}

/// A space of `count` booleans.
fn booleans(count: usize) -> Value {
    let names = (0..count).map(|i| (format!("p{i}"), json!({"type": "boolean"})));
    Value::Object(names.collect())
}

fn ordered(most: i64) -> SearchSpace {
    let number = json!({"type": "int", "minval": 0, "maxval": most});
    let names = (0..6).map(|i| (format!("x{i}"), number.clone()));
    let below: Vec<String> = (0..5).map(|i| format!("x{i} < x{}", i + 1)).collect();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    with_constraints(Value::Object(names.collect()), &below).unwrap()
}

/// What an enumeration is by its definition: all combinations, without passing anything over.
fn by_brute_force(space: &SearchSpace) -> Vec<Params> {
    let mut found = vec![Params::new()];
    for &position in space.parents_first() {
        let parameter = &space.parameters()[position];
        found = found
            .into_iter()
            .flat_map(|params| {
                let active = space.is_active(position, &params);
                let values = if active {
                    parameter.domain.grid_len().unwrap()
                } else {
                    1
                };
                (0..values).map(move |at| {
                    let mut params = params.clone();
                    if active {
                        params.insert(parameter.name.clone(), parameter.domain.grid_at(at));
                    }
                    params
                })
            })
            .collect();
    }
    found.retain(|params| space.allows(params));
    found
}

fn small_spaces() -> Vec<SearchSpace> {
    let number = |most: i64| json!({"type": "int", "minval": 0, "maxval": most});
    let branches = json!({
        "deep": {"type": "int", "minval": 1, "maxval": 3, "when": {"kind": ["b", "c"], "layers": [2, 4]}},
        "kind": {"type": "categorical", "vals": ["a", "b", "c", "d"]},
        "layers": {"type": "int", "minval": 1, "maxval": 5, "when": {"kind": ["c", "b"]}},
        "rate": {"type": "double", "minval": 0.1, "maxval": 0.5, "step": 0.1},
        "log": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": true, "count": 4},
        "size": {"type": "ordinal", "vals": [1, 10, 100]},
        "fixed": {"type": "const", "val": 7},
    });
    vec![
        with_constraints(branches.clone(), &[]).unwrap(),
        with_constraints(branches.clone(), &["deep != layers", "rate * size < 3"]).unwrap(),
        with_constraints(branches.clone(), &["kind != 'd'"]).unwrap(),
        with_constraints(branches, &["deep > 1 and layers > 2 and log > 1e-3"]).unwrap(),
        with_constraints(
            json!({"a": number(3), "b": number(4), "c": number(2)}),
            &["b > 9"],
        )
        .unwrap(),
        ordered(7),
        with_constraints(booleans(7), &["p1 or not p1", "p3 == p5"]).unwrap(),
        checked(json!({})),
    ]
}

#[test]
fn configurations_are_those_of_brute_force_in_the_same_order() {
    for space in small_spaces() {
        let all = by_brute_force(&space);
        let sorted = |params: Params| space.in_spec_order(params);
        let all: Vec<Params> = all.into_iter().map(sorted).collect();
        assert_eq!(space.grid().unwrap().collect::<Vec<_>>(), all);
        assert_eq!(space.grid_len(), Some(all.len() as u128));
        let listing = space.listing().unwrap();
        assert_eq!(listing.len(), all.len() as u64);
        for (number, params) in (0u64..).zip(&all) {
            assert_eq!(listing.get(number).as_ref(), Some(params));
            assert_eq!(listing.number(params), Some(number));
            let again = space.of_fingerprint(&space.fingerprint(params)).unwrap();
            assert_eq!(listing.number(&again), Some(number), "{again:?}");
        }
        assert_eq!(listing.get(all.len() as u64), None);
        for seed in 0..200 {
            let drawn = space.sample(Key::new(seed));
            let place = all
                .iter()
                .position(|params| space.fingerprint(params) == space.fingerprint(&drawn));
            let on_grid = space.is_finite() || place.is_some();
            assert!(on_grid || listing.number(&drawn).is_none());
            if on_grid {
                assert_eq!(
                    listing.number(&drawn),
                    place.map(|at| at as u64),
                    "{drawn:?}"
                );
            }
        }
    }
}

/// Enough places that those which are noted lie apart.
#[test]
fn a_large_listing_is_found_again_by_number() {
    let space = with_constraints(booleans(16), &["p0 or p15", "p3 != p14"]).unwrap();
    let listing = space.listing().unwrap();
    assert_eq!(listing.len(), 3 << 13);
    let before = space.looked();
    for (number, params) in (0u64..).zip(space.grid().unwrap()).step_by(7) {
        assert_eq!(listing.get(number), Some(params.clone()));
        assert_eq!(listing.number(&params), Some(number));
    }
    let each = (space.looked() - before) / (listing.len() / 7) / 2;
    assert!(each < 150, "{each} positions to find one");
}

/// Where all wheels are walked there are more places than are noted.
#[test]
fn places_are_noted_further_apart_where_there_are_many_wheels() {
    let mut wide = booleans(11);
    for i in 0..600 {
        wide[format!("c{i}")] = json!({"type": "const", "val": i});
    }
    let space = with_constraints(wide, &["c599 > 0", "p0 != p10"]).unwrap();
    let listing = space.listing().unwrap();
    assert_eq!(listing.len(), 1_024);
    for (number, params) in (0u64..).zip(space.grid().unwrap()) {
        assert_eq!(listing.get(number), Some(params.clone()));
        assert_eq!(listing.number(&params), Some(number));
    }
}

#[test]
fn a_space_is_looked_through_once_and_what_is_forbidden_not_at_all() {
    // 524,288 configurations, of which the constraint touches two hyperparameters.
    let space = with_constraints(booleans(19), &["p1 or not p1"]).unwrap();
    assert_eq!(space.cardinality(), Some(1 << 19));
    assert!(space.looked() < 10, "{}", space.looked());
    // 210 of 1,000,000.
    let space = ordered(9);
    let copy = space.clone();
    assert_eq!(space.cardinality(), Some(210));
    let looked = space.looked();
    assert!(looked < 7_000, "{looked}");
    assert_eq!(
        (copy.cardinality(), copy.grid_len()),
        (Some(210), Some(210))
    );
    assert_eq!(copy.looked(), looked, "copies do not count again");
    let number = json!({"type": "int", "minval": 0, "maxval": 9});
    let names = (0..6).map(|i| (format!("x{i}"), number.clone()));
    let other = with_constraints(
        Value::Object(names.collect()),
        &["x0 + x1 + x2 + x3 + x4 == x5"],
    );
    let other = other.unwrap();
    assert_eq!(other.cardinality(), Some(2002));
    // A million sums are judged, of 28 characters each.
    assert!(other.looked() < 1_300_000, "{}", other.looked());
}

#[test]
fn what_is_known_of_a_space_is_not_looked_for_again() {
    let known = ordered(9).known();
    let text = serde_json::to_string(&known).unwrap();
    let read: KnownSpace = serde_json::from_str(&text).unwrap();
    assert_eq!(read, known);
    let space = ordered(9);
    space.told(&read);
    assert_eq!(space.cardinality(), Some(210));
    assert_eq!(space.first_allowed(), known.first.as_ref());
    assert_eq!(space.looked(), 0);
    assert_eq!(space.listing().unwrap().len(), 210);
}

#[test]
fn what_cannot_be_listed_has_no_number() {
    for (space, constraints) in [
        (booleans(20), vec!["p0 or p19"]),
        (booleans(60), vec!["p0 or p59"]),
        (network(), vec!["layers < 3"]),
    ] {
        let space = with_constraints(space, &constraints).unwrap();
        assert_eq!(space.cardinality(), None);
        assert!(space.listing().is_none());
        assert_eq!(space.looked(), 0);
    }
    // A chain of 600 below each of 65,536.
    let mut deep = booleans(16);
    for i in 0..600 {
        deep[format!("c{i}")] = json!({"type": "const", "val": i});
    }
    let space = with_constraints(deep, &["c599 > 0"]).unwrap();
    assert_eq!(space.cardinality(), None);
    assert!(space.looked() <= 4 * MAX_LISTED);
}

#[test]
fn a_grid_whose_next_configuration_is_too_far_ends() {
    let number = json!({"type": "int", "minval": 0, "maxval": 999});
    let space = json!({"a": number, "b": number, "c": number});
    let space = with_constraints(space, &["a * b * c >= 998001000"]).unwrap();
    assert_eq!(space.grid_len(), None);
    let mut grid = space.grid().unwrap().within(10_000);
    assert_eq!(grid.next(), None);
    assert!(space.looked() <= 10_000, "{}", space.looked());
}

/// A condition may name many values of a parent.
#[test]
fn conditions_of_many_values_are_counted_by_their_positions() {
    let many: Vec<i64> = (0..100_000).collect();
    let space = checked(json!({
        "parent": {"type": "int", "minval": 0, "maxval": 199_999},
        "child": {"type": "int", "minval": 1, "maxval": 3, "when": {"parent": many}},
    }));
    assert_eq!(space.grid_len(), Some(400_000));
    let words: Vec<String> = (0..20_000).map(|i| format!("w{i}")).collect();
    let space = checked(json!({
        "parent": {"type": "categorical", "vals": words},
        "child": {"type": "boolean", "when": {"parent": words[..10_000]}},
    }));
    assert_eq!(space.grid_len(), Some(30_000));
}

/// A constraint of so many characters that refuses nothing.
fn long_constraint(length: usize) -> String {
    let mut text = "a >= 0".to_owned();
    while text.len() + 10 <= length {
        text.push_str(" or a >= 0");
    }
    text
}

#[test]
fn long_constraints_count_as_work() {
    let number = json!({"type": "int", "minval": 0, "maxval": 999_998});
    let many: Vec<String> = (0..100).map(|_| long_constraint(1_000)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let space = with_constraints(json!({"a": number}), &many).unwrap();
    // All hold: each character of each is judged.
    assert_eq!(space.cardinality(), None);
    assert!(space.looked() <= 4 * MAX_LISTED + 400, "{}", space.looked());
    let short = with_constraints(json!({"a": number}), &["a >= 0"]).unwrap();
    assert_eq!(short.cardinality(), Some(999_999));
    // Draws are fewer where each takes longer.
    assert_eq!(short.draws(20_000), 20_000);
    assert!((3_000..3_100).contains(&space.draws(20_000)));
    assert_eq!(checked(booleans(1_000)).draws(20_000), 3_000);
}
