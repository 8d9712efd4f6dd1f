use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn searcher(spec: Value, space: &Value, seed: u64) -> Searcher {
    Searcher::of(&job(spec, space, seed)).unwrap()
}

fn job(searcher: Value, space: &Value, seed: u64) -> JobSpec {
    serde_json::from_value(json!({
        "name": "a", "seed": seed, "hyperparameters": space, "searcher": searcher,
        "objectives": [{"metric": "loss", "mode": "minimize"}],
    }))
    .unwrap()
}

/// All suggestions, at most `limit`.
fn all(searcher: &mut Searcher, limit: u32) -> Vec<Params> {
    (0..limit)
        .map_while(|trial| searcher.suggest(TrialId(trial), None))
        .collect()
}

fn mixed() -> Value {
    json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": true, "count": 4},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
        "momentum": {"type": "double", "minval": 0.0, "maxval": 0.9, "step": 0.3, "when": {"optimizer": "sgd"}},
        "units": {"type": "int", "minval": 16, "maxval": 64, "step": 16},
    })
}

/// How many of them are different.
fn different(found: &[Params]) -> usize {
    let texts = found
        .iter()
        .map(|params| Value::Object(params.clone()).to_string());
    texts.collect::<BTreeSet<String>>().len()
}

#[test]
fn a_grid_has_each_configuration_once() {
    let mut grid = searcher(json!({"name": "grid"}), &mixed(), 1);
    assert_eq!(grid.expected_trials(), Some(4 * (4 + 1) * 4));
    let found = all(&mut grid, 1_000);
    assert_eq!((found.len(), different(&found)), (80, 80));
    assert_eq!(grid.suggest(TrialId(80), None), None);
    for params in &found {
        assert_eq!(
            params.contains_key("momentum"),
            params["optimizer"] == "sgd"
        );
    }
}

#[test]
fn max_trials_ends_a_search() {
    for name in ["grid", "random", "sobol", "halton"] {
        let mut search = searcher(json!({"name": name, "max_trials": 7}), &mixed(), 1);
        assert_eq!(search.expected_trials(), Some(7));
        assert_eq!(all(&mut search, 100).len(), 7);
    }
}

#[test]
fn draws_use_up_a_finite_space_without_repetition() {
    let space = json!({
        // Very uneven: most draws are small, so that the last ones must be listed.
        "n": {"type": "int", "minval": 1, "maxval": 40, "log": true},
        "flag": {"type": "categorical", "vals": [true, false]},
    });
    for name in ["random", "sobol", "halton"] {
        let mut drawn = searcher(json!({"name": name, "max_trials": 1000}), &space, 3);
        assert_eq!(drawn.expected_trials(), Some(80));
        let found = all(&mut drawn, 1_000);
        assert_eq!((found.len(), different(&found)), (80, 80));
    }
}

#[test]
fn a_sequence_fills_every_hyperparameter_evenly() {
    let space = json!({
        "lr": {"type": "double", "minval": 1e-4, "maxval": 1.0, "log": true},
        "units": {"type": "int", "minval": 1, "maxval": 8},
        "flag": {"type": "categorical", "vals": ["a", "b", "c", "d"]},
        "fixed": {"type": "const", "val": 3},
        "x": {"type": "double", "minval": -1, "maxval": 1},
    });
    let mut sobol = searcher(json!({"name": "sobol", "max_trials": 16}), &space, 9);
    let found = all(&mut sobol, 100);
    assert_eq!(found.len(), 16);
    let counts = |of: &dyn Fn(&Params) -> String| {
        let mut counts = std::collections::BTreeMap::new();
        for params in &found {
            *counts.entry(of(params)).or_insert(0) += 1;
        }
        counts
    };
    let decade = |params: &Params| params["lr"].as_f64().unwrap().log10().floor().to_string();
    let sixteenth = |params: &Params| (params["x"].as_f64().unwrap() * 8.0).floor().to_string();
    for (each, cells, of) in [
        (4, 4, &decade as &dyn Fn(&Params) -> String),
        (2, 8, &|params| params["units"].to_string()),
        (4, 4, &|params| params["flag"].to_string()),
        (1, 16, &sixteenth),
    ] {
        let counts = counts(of);
        assert_eq!(counts.len(), cells, "{counts:?}");
        assert!(counts.values().all(|count| *count == each), "{counts:?}");
    }
    assert!(found.iter().all(|params| params["fixed"] == 3));
}

#[test]
fn nothing_to_choose_means_repetitions() {
    let mut random = searcher(json!({"name": "random", "max_trials": 5}), &json!({}), 3);
    assert_eq!(random.expected_trials(), Some(5));
    assert_eq!(all(&mut random, 100), vec![Params::new(); 5]);
}

#[test]
fn errors_name_what_is_missing() {
    let space = json!({"x": {"type": "double", "minval": 0, "maxval": 1}});
    let refused = |spec: Value| Searcher::of(&job(spec, &space, 0)).unwrap_err();
    assert_eq!(
        refused(json!({"name": "grid"})).to_string(),
        "hyperparameters.x: a grid needs `count` (or `step`) for a double"
    );
    assert_eq!(
        refused(json!({"name": "random"})),
        SearchError::NeedsMaxTrials
    );
}

/// A value is written and read between a proposal and what becomes of it; an evolution must know its own again.
#[test]
fn an_evolution_hears_of_its_own_samples() {
    let space = json!({
        "a": {"type": "double", "minval": -5, "maxval": 10},
        "b": {"type": "double", "minval": 1e-5, "maxval": 1.0, "log": true},
        "c": {"type": "double", "minval": 0.1, "maxval": 0.7},
    });
    let cost = |params: &Params| {
        let place = |name: &str| params[name].as_f64().unwrap();
        let b = libm::log10(place("b")) + 3.3;
        (place("a") - 1.7).powi(2) + b * b + 10.0 * (place("c") - 0.37).powi(2)
    };
    for (name, enough) in [("cma_es", 1e-6), ("dehb", 5e-2)] {
        let mut search = searcher(json!({"name": name, "max_trials": 400}), &space, 5);
        let mut best = f64::INFINITY;
        for trial in (0..400).map(TrialId) {
            let Some(params) = search.suggest(trial, None) else {
                panic!("{name} ended");
            };
            let value = cost(&params);
            best = best.min(value);
            let outcome = Outcome::Completed { value: Some(value) };
            search.observe(&Observation {
                trial,
                outcome,
                values: Vec::new(),
            });
        }
        assert!(best < enough, "{name}: {best}");
    }
}

/// No draw meets these: what is known to is the start.
#[test]
fn narrow_constraints_do_not_end_a_search() {
    let space = json!({
        "x": {"type": "double", "minval": 0, "maxval": 1},
        "n": {"type": "int", "minval": 1, "maxval": 4},
    });
    for name in [
        "random", "sobol", "gp", "auto", "tpe", "cma_es", "dehb", "bohb", "nsga2",
    ] {
        let mut narrow = job(json!({"name": name, "max_trials": 8}), &space, 1);
        narrow.constraints = vec!["n == 1 and x <= 0.00001".to_owned()];
        let found = all(&mut Searcher::of(&narrow).unwrap(), 20);
        assert_eq!((found.len(), different(&found)), (8, 8), "{name}");
        // One configuration alone.
        narrow.constraints = vec!["x == n".to_owned()];
        let found = all(&mut Searcher::of(&narrow).unwrap(), 20);
        assert!(
            found.iter().all(|params| params["x"] == 1.0),
            "{name}: {found:?}"
        );
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
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
    fn replaying_the_calls_gives_the_same_next_suggestion(
        seed: u64, before in 0..60u32, name in 0..4usize,
    ) {
        let name = ["grid", "random", "sobol", "halton"][name];
        let spec = json!({"name": name, "max_trials": 70});
        let space: trainyard_common::spec::Space = serde_json::from_value(mixed()).unwrap();
        let checked = SearchSpace::new(&space).unwrap();
        let mut live = searcher(spec.clone(), &mixed(), seed);
        for trial in 0..before {
            live.suggest(TrialId(trial), None);
            live.observe(&Observation { trial: TrialId(trial), outcome: Outcome::Completed { value: Some(0.5) }, values: Vec::new() });
        }
        let mut replayed = searcher(spec, &mixed(), seed);
        for trial in 0..before {
            replayed.suggest(TrialId(trial), None);
        }
        let next = live.suggest(TrialId(before), None);
        prop_assert_eq!(&next, &replayed.suggest(TrialId(before), None));
        let Some(params) = next else {
            return Err(TestCaseError::fail("ended early"));
        };
        prop_assert!(checked.contains(&params).is_ok());
    }

    #[test]
    fn seeds_differ(seed in 0..u64::MAX, name in 0..3usize) {
        let name = ["random", "sobol", "halton"][name];
        let spec = json!({"name": name, "max_trials": 3});
        let space = json!({"x": {"type": "double", "minval": 0, "maxval": 1}});
        let a = all(&mut searcher(spec.clone(), &space, seed), 3);
        let b = all(&mut searcher(spec, &space, seed + 1), 3);
        prop_assert_ne!(a, b);
    }
}
