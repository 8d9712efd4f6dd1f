use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use trainyard_common::rng::Key;

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
        // No wider than decimals are told apart.
        narrow.constraints = vec!["x == n".to_owned()];
        let found = all(&mut Searcher::of(&narrow).unwrap(), 20);
        let near = |params: &Params| (params["x"].as_f64().unwrap() - 1.0).abs() < 1e-9;
        assert!(found.iter().all(near), "{name}: {found:?}");
        assert!(!found.is_empty(), "{name}");
        assert_eq!(different(&found), found.len(), "{name}: {found:?}");
    }
}

const NAMES: [&str; 11] = [
    "grid", "random", "sobol", "halton", "auto", "tpe", "gp", "cma_es", "dehb", "bohb", "nsga2",
];

/// Six numbers in ascending order: 210 of 1,000,000 configurations.
fn ascending(name: &str, trials: u32) -> JobSpec {
    let number = json!({"type": "int", "minval": 0, "maxval": 9});
    let numbers = (0..6).map(|i| (format!("x{i}"), number.clone()));
    let space = Value::Object(numbers.collect());
    let mut job = job(json!({"name": name, "max_trials": trials}), &space, 7);
    let below = |i: usize| format!("x{i} < x{}", i + 1);
    job.constraints = (0..5).map(below).collect();
    job
}

/// Suggestions, each observed at once with a cost of its own.
fn observed(searcher: &mut Searcher, limit: u32) -> Vec<Params> {
    let mut found = Vec::new();
    for trial in (0..limit).map(TrialId) {
        let Some(params) = searcher.suggest(trial, None) else {
            break;
        };
        let cost = params["x0"].as_f64().unwrap() + params["x3"].as_f64().unwrap();
        searcher.observe(&Observation {
            trial,
            outcome: Outcome::Completed { value: Some(cost) },
            values: Vec::new(),
        });
        found.push(params);
    }
    found
}

#[test]
fn a_constrained_space_is_looked_through_once_and_not_for_each_suggestion() {
    for name in NAMES {
        let trials = if matches!(name, "gp" | "auto") {
            40
        } else {
            210
        };
        let job = ascending(name, trials);
        let space = SearchSpace::of(&job).unwrap();
        assert_eq!(space.cardinality(), Some(210));
        let counted = space.looked();
        let mut searcher = Searcher::over(&job, space.clone()).unwrap();
        assert_eq!(searcher.expected_trials(), Some(trials));
        assert_eq!(space.looked(), counted, "{name}: counted again");
        let found = observed(&mut searcher, trials);
        assert_eq!(found.len(), trials as usize, "{name}");
        let looked = space.looked() - counted;
        // For what is found by number, some for each; never the 6,000 of the whole.
        assert!(looked <= 400 * u64::from(trials), "{name}: {looked}");
    }
}

/// The first draw is the k-th of what is left, in the order of a grid: as a list of all of them says it.
#[test]
fn what_draws_do_not_find_is_taken_from_what_is_left() {
    let job = ascending("random", 210);
    let mut searcher = Searcher::of(&job).unwrap();
    let found = all(&mut searcher, 300);
    assert_eq!((found.len(), different(&found)), (210, 210));
    let space = SearchSpace::of(&job).unwrap();
    let mut left: Vec<Params> = space.grid().unwrap().collect();
    let mut listed = 0;
    for (trial, params) in (0u64..).zip(&found) {
        let key = Key::new(job.seed).named("search").with(trial);
        let mut draws = (0..64).map(|attempt| space.sample(key.with(attempt)));
        let drawn = draws.find(|drawn| left.contains(drawn));
        let expected = drawn.unwrap_or_else(|| {
            listed += 1;
            left[key.with(64).below(0, left.len() as u64) as usize].clone()
        });
        assert_eq!(*params, expected, "trial {trial}");
        left.retain(|other| *other != expected);
    }
    assert!(listed > 150, "{listed}");
}

/// What a take-over knows from a job's record is not found out again, and its search goes on as it would have.
#[test]
fn a_search_that_is_taken_over_goes_on_without_looking_through_its_space() {
    for name in NAMES {
        let job = ascending(name, 30);
        let mut live = Searcher::of(&job).unwrap();
        let proposed = observed(&mut live, 20);
        let space = SearchSpace::of(&job).unwrap();
        space.told(&SearchSpace::of(&job).unwrap().known());
        let mut taken = Searcher::over(&job, space.clone()).unwrap();
        for (trial, params) in (0..).map(TrialId).zip(&proposed) {
            assert_eq!(
                taken.adopt(trial, None, params).as_ref(),
                Some(params),
                "{name}"
            );
            let cost = params["x0"].as_f64().unwrap() + params["x3"].as_f64().unwrap();
            taken.observe(&Observation {
                trial,
                outcome: Outcome::Completed { value: Some(cost) },
                values: Vec::new(),
            });
        }
        if matches!(name, "random" | "sobol" | "halton" | "gp" | "nsga2") {
            assert_eq!(space.looked(), 0, "{name}");
        }
        for trial in (20..30).map(TrialId) {
            assert_eq!(
                taken.suggest(trial, None),
                live.suggest(trial, None),
                "{name}"
            );
        }
    }
}

/// Sequences know after a take-over how many of their points were used.
#[test]
fn a_sequence_that_is_taken_over_goes_on_where_it_was() {
    let continuous = json!({"x": {"type": "double", "minval": 0, "maxval": 1}, "y": {"type": "double", "minval": 0, "maxval": 1}});
    let uneven = json!({
        "n": {"type": "int", "minval": 1, "maxval": 40, "log": true},
        "flag": {"type": "categorical", "vals": [true, false]},
    });
    let huge = json!({
        "n": {"type": "int", "minval": 1, "maxval": 4000000, "log": true},
        "m": {"type": "ordinal", "vals": [1, 2]},
    });
    for (space, constraints) in [
        (&continuous, vec![]),
        (&continuous, vec!["x < y"]),
        (&continuous, vec!["x < y", "y < 0.0001"]),
        (&uneven, vec![]),
        (&uneven, vec!["n < 9 or n > 35"]),
        (&huge, vec![]),
        (&huge, vec!["n < 5"]),
    ] {
        for name in ["random", "sobol", "halton"] {
            let mut job = job(json!({"name": name, "max_trials": 60}), space, 3);
            job.constraints = constraints.iter().map(|text| (*text).to_owned()).collect();
            let mut live = Searcher::of(&job).unwrap();
            let mut taken = Searcher::of(&job).unwrap();
            for trial in (0..50).map(TrialId) {
                let Some(params) = live.suggest(trial, None) else {
                    break;
                };
                assert_eq!(taken.adopt(trial, None, &params), Some(params));
            }
            for trial in (50..60).map(TrialId) {
                let (a, b) = (live.suggest(trial, None), taken.suggest(trial, None));
                assert_eq!(a, b, "{name} {constraints:?}");
            }
        }
    }
}

/// Nobody knows how far the next configuration of a grid is that is too large to be counted.
#[test]
fn a_grid_of_which_nearly_all_is_forbidden_ends() {
    let number = json!({"type": "int", "minval": 1, "maxval": 1000});
    let space = json!({"a": number, "b": number, "c": number});
    let mut job = job(json!({"name": "grid", "max_trials": 5}), &space, 1);
    job.constraints = vec!["a * b * c >= 1000000000".to_owned()];
    let space = SearchSpace::of(&job).unwrap();
    let mut grid = Searcher::over(&job, space.clone()).unwrap();
    assert_eq!(grid.suggest(TrialId(0), None), None);
    assert!(space.looked() <= 100_000, "{}", space.looked());
    job.constraints = vec!["a + b + c > 4".to_owned()];
    let mut grid = Searcher::of(&job).unwrap();
    assert_eq!(all(&mut grid, 10).len(), 5);
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

#[test]
fn what_a_suggestion_takes_grows_with_what_the_model_looks_at() {
    let space = json!({"x": {"type": "double", "minval": 0, "maxval": 1}});
    let known = |count: u32| -> Vec<Value> {
        let at = |n| json!({"params": {"x": f64::from(n) / f64::from(count)}, "value": n});
        (0..count).map(at).collect()
    };
    let effort = |name: &str, count: u32, more: Value| {
        let mut spec = json!({"name": name, "max_trials": 9, "prior_results": known(count)});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        searcher(spec, &space, 1).effort_ms()
    };
    // With its first results nothing is fitted; after that each fit takes its time.
    assert_eq!(effort("gp", 3, json!({})), 0);
    assert_eq!(effort("gp", 20, json!({})), 2);
    assert_eq!(effort("gp", 1_000, json!({})), 77);
    // No more than it looks at.
    assert_eq!(effort("gp", 3_000, json!({})), 77);
    assert_eq!(effort("gp", 3_000, json!({"gp_max_points": 2_000})), 302);
    assert_eq!(effort("tpe", 1_000, json!({})), 4);
    assert_eq!(
        searcher(json!({"name": "random", "max_trials": 9}), &space, 1).effort_ms(),
        0
    );
}

#[test]
fn long_lists_are_encoded_by_their_positions() {
    let values: Vec<String> = (0..10_000).map(|n| format!("v{n}")).collect();
    let space = json!({
        "a": {"type": "categorical", "vals": values},
        "b": {"type": "int", "minval": 1, "maxval": 9, "when": {"a": values}},
        "c": {"type": "ordinal", "vals": [1, 2.5, "x", true]},
    });
    let space: trainyard_common::spec::Space = serde_json::from_value(space).unwrap();
    let axes = axes::Axes::new(SearchSpace::new(&space).unwrap());
    for seed in 0..200 {
        let point = axes.draw(Key::new(seed));
        let params = axes.decode(&point);
        assert_eq!(axes.encode(&params).unwrap(), point);
        assert!(params.contains_key("b"));
    }
    let unknown = json!({"a": "v10000", "c": 1});
    assert_eq!(axes.encode(unknown.as_object().unwrap()), None);
}

/// Whatever a search had proposed is taken over from its log, under rungs too, and it goes on as it would have.
#[test]
fn a_search_under_rungs_goes_on_where_it_was() {
    let double = json!({"type": "double", "minval": 0, "maxval": 1});
    for (name, scheduler, objectives) in [
        ("gp", "asha", 1),
        ("gp", "asha", 2),
        ("tpe", "asha", 1),
        ("tpe", "hyperband", 1),
        ("bohb", "hyperband", 1),
        ("dehb", "hyperband", 1),
        ("cma_es", "asha", 1),
        ("nsga2", "asha", 2),
    ] {
        let space =
            json!({"x": double, "y": double, "n": {"type": "int", "minval": 1, "maxval": 9}});
        let mut spec = job(json!({"name": name, "max_trials": 90}), &space, 3);
        spec.scheduler = serde_json::from_value(json!({
            "name": scheduler, "min_resource": 1, "max_resource": 9, "eta": 3,
        }))
        .unwrap();
        let metrics =
            (0..objectives).map(|at| json!({"metric": format!("m{at}"), "mode": "minimize"}));
        spec.objectives = serde_json::from_value(metrics.collect()).unwrap();
        let mut live = Searcher::of(&spec).unwrap();
        let mut taken = Searcher::of(&spec).unwrap();
        for trial in (0..90u32).map(TrialId) {
            let first = Some(if trial.0 % 5 == 4 { 3 } else { 1 });
            let params = live.suggest(trial, first).unwrap();
            // Most are taken over, some found again.
            let known = match trial.0 % 7 == 3 || trial.0 > 70 {
                true => taken.suggest(trial, first),
                false => taken.adopt(trial, first, &params),
            };
            assert_eq!(known.as_ref(), Some(&params), "{name} {scheduler} {trial}");
            for search in [&mut live, &mut taken] {
                told(search, trial, &params, objectives);
            }
        }
    }
}

/// A trial comes to its first rung, as some earlier one goes on to the next, and a third one ends there.
fn told(search: &mut Searcher, trial: TrialId, params: &Params, objectives: usize) {
    let value = params["x"].as_f64().unwrap() - 0.1 * params["n"].as_f64().unwrap();
    search.reached(trial, 1, Some(value).filter(|_| trial.0 % 11 != 6));
    if trial.0 >= 6 && trial.0.is_multiple_of(2) {
        let promoted = TrialId(trial.0 - 6);
        search.promoted(promoted);
        if trial.0.is_multiple_of(4) {
            let value = f64::from(trial.0 % 8) + value;
            search.reached(promoted, 3, Some(value));
            search.observe(&Observation {
                trial: promoted,
                outcome: Outcome::Completed { value: Some(value) },
                values: (0..objectives)
                    .map(|at| value * (1.0 - 3.0 * at as f64))
                    .collect(),
            });
        }
    }
}
