//! Searches of spaces in which hardly any draw meets the constraints.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trainyard_common::spec::search::SearcherName;

use super::*;

const SEARCHERS: [&str; 9] = [
    "random", "sobol", "halton", "tpe", "gp", "cma_es", "bohb", "dehb", "nsga2",
];

fn job(name: &str, space: &Value, constraints: &[String], trials: u32) -> JobSpec {
    let _: SearcherName = serde_json::from_value(json!(name)).unwrap();
    serde_json::from_value(json!({
        "name": "a", "seed": 5, "hyperparameters": space, "constraints": constraints,
        "searcher": {"name": name, "max_trials": trials},
        "objectives": [{"metric": "loss", "mode": "minimize"}],
    }))
    .unwrap()
}

/// All suggestions of a search that hears of this loss.
fn found(job: &JobSpec, loss: impl Fn(&Params) -> f64) -> Vec<Params> {
    let space = SearchSpace::of(job).unwrap();
    let mut searcher = Searcher::over(job, space.clone()).unwrap();
    let mut found = Vec::new();
    for trial in (0..).map(TrialId) {
        let Some(params) = searcher.suggest(trial, None) else {
            return found;
        };
        space.contains(&params).unwrap();
        let value = Some(loss(&params));
        searcher.observe(&Observation {
            trial,
            outcome: Outcome::Completed { value },
            values: Vec::new(),
        });
        found.push(params);
    }
    found
}

fn number(params: &Params, name: &str) -> f64 {
    params[name].as_f64().unwrap()
}

/// One draw in 3.6 million is ascending.
#[test]
fn an_order_is_searched_as_widely_as_its_space() {
    let range = json!({"type": "int", "minval": 200, "maxval": 8000});
    let space = (0..10).map(|at| (format!("x{at}"), range.clone()));
    let space = Value::Object(space.collect());
    let order: Vec<String> = (1..10).map(|at| format!("x{} <= x{at}", at - 1)).collect();
    for name in SEARCHERS {
        let trials = if name == "gp" { 40 } else { 120 };
        let job = job(name, &space, &order, trials);
        // The best is in the middle of the space: 300, 1100, ..., 7500.
        let loss = |params: &Params| {
            let far = |at: u32| number(params, &format!("x{at}")) / 7800.0 - f64::from(at) / 9.75;
            (0..10).map(|at| far(at) * far(at)).sum::<f64>()
        };
        let found = found(&job, loss);
        let texts: BTreeSet<String> = found
            .iter()
            .map(|p| Value::Object(p.clone()).to_string())
            .collect();
        assert_eq!(
            (found.len(), texts.len()),
            (trials as usize, trials as usize),
            "{name}"
        );
        // The first and the last of ten are 7090 apart in the mean.
        let early = found.iter().take(20);
        let width: f64 = early
            .map(|p| number(p, "x9") - number(p, "x0"))
            .sum::<f64>()
            / 20.0;
        assert!(width > 4_500.0, "{name}: {width}");
        let best = |found: &[Params]| found.iter().map(loss).fold(f64::MAX, f64::min);
        if matches!(name, "tpe" | "gp") {
            assert!(
                best(&found) < 0.7 * best(&found[..20]),
                "{name} learned nothing"
            );
        }
    }
}

/// Of 10^12 configurations 24 are allowed: a permutation of four numbers, the rest fixed by it.
#[test]
fn a_search_ends_when_what_is_allowed_was_tried() {
    let range = json!({"type": "int", "minval": 1, "maxval": 1000});
    let space = json!({"a": range, "b": range, "c": range, "d": range});
    let one_of = |name: &str| format!("{name} in [10, 400, 410, 990]");
    let mut constraints: Vec<String> = ["a", "b", "c", "d"].map(one_of).to_vec();
    constraints.push("a != b and a != c and a != d and b != c and b != d and c != d".to_owned());
    for name in ["random", "sobol", "tpe", "nsga2"] {
        let found = found(&job(name, &space, &constraints, 100), |params| {
            number(params, "a")
        });
        let texts: BTreeSet<String> = found
            .iter()
            .map(|p| Value::Object(p.clone()).to_string())
            .collect();
        assert_eq!(found.len(), texts.len(), "{name}");
        assert!((8..=24).contains(&found.len()), "{name}: {}", found.len());
    }
}

#[test]
fn a_search_that_is_taken_over_goes_on_as_it_would_have() {
    let range = json!({"type": "double", "minval": 0, "maxval": 1});
    let space = json!({"a": range, "b": range, "c": range, "d": range});
    let narrow = vec!["a < b * 0.1 and b < c * 0.1 and c < d * 0.1".to_owned()];
    for name in ["random", "sobol", "tpe", "cma_es", "dehb"] {
        let job = job(name, &space, &narrow, 40);
        let all = found(&job, |params| number(params, "d"));
        let mut other = Searcher::of(&job).unwrap();
        for (trial, params) in (0..).map(TrialId).zip(&all) {
            let again = match trial.0 < 25 {
                true => other.adopt(trial, None, params),
                false => other.suggest(trial, None),
            };
            assert_eq!(again.as_ref(), Some(params), "{name} {}", trial.0);
            other.observe(&Observation {
                trial,
                outcome: Outcome::Completed {
                    value: Some(number(params, "d")),
                },
                values: Vec::new(),
            });
        }
    }
}
