//! Searches over random spaces by every searcher and scheduler: nothing panics, every configuration is one of
//! the space, a grid has none twice, whatever becomes of trials every search ends, and a search that is
//! replayed or taken over from its log goes on in the same way.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trainyard_common::rng::Key;
use trainyard_common::spec::Document;

use super::*;

const SEARCHERS: [&str; 11] = [
    "auto", "random", "sobol", "halton", "tpe", "gp", "cma_es", "bohb", "dehb", "nsga2", "grid",
];

const SCHEDULERS: [&str; 9] = [
    "name: fifo",
    "name: asha, max_resource: 9",
    "name: asha, max_resource: 9, variant: stopping",
    "name: async_hyperband, max_resource: 9",
    "name: sha, max_resource: 9, bracket_trials: 6",
    "name: hyperband, max_resource: 9",
    "name: median_stopping, max_resource: 6, min_trials: 2",
    "name: early_stopping, max_resource: 6, patience: 2",
    "name: pbt, max_resource: 6, interval: 2, population: 5",
];

/// Up to six hyperparameters of any kind, some conditional, and sometimes a constraint.
fn space(key: Key, is_grid: bool) -> (Value, Vec<String>) {
    let mut space = serde_json::Map::new();
    let count = 1 + key.below(0, 6);
    for number in 0..count {
        let key = key.with(number);
        let low = (key.unit(1) * 20.0).floor() - 10.0;
        let high = low + 1.0 + (key.unit(2) * 30.0).floor();
        let mut parameter = match key.below(3, if is_grid { 5 } else { 7 }) {
            0 => json!({"type": "int", "minval": low, "maxval": high}),
            1 => json!({"type": "double", "minval": low, "maxval": high, "step": 1.0}),
            2 => json!({"type": "categorical", "vals": ["a", "b", 3, true]}),
            3 => json!({"type": "ordinal", "vals": [1, 10, 100]}),
            4 => json!({"type": "boolean"}),
            5 => json!({"type": "double", "minval": low, "maxval": high}),
            _ => json!({"type": "double", "minval": 1e-6, "maxval": 1.0, "log": true}),
        };
        if number > 0 && key.unit(4) < 0.3 {
            let parent = format!("p{}", key.below(5, number));
            let values: Option<Value> = match space[&parent]["type"].as_str() {
                Some("categorical") => Some(json!(["a", 3])),
                Some("ordinal") => Some(json!(10)),
                Some("boolean") => Some(json!(true)),
                Some("int") => Some(space[&parent]["minval"].clone()),
                _ => None,
            };
            if let Some(values) = values {
                parameter["when"] = json!({ parent: values });
            }
        }
        space.insert(format!("p{number}"), parameter);
    }
    let numeric = |name: &str| matches!(space[name]["type"].as_str(), Some("int" | "double"));
    let mut constraints = Vec::new();
    if count > 1 && numeric("p0") && numeric("p1") && key.unit(6) < 0.5 {
        constraints.push("p0 + p1 <= 15".to_owned());
    }
    (Value::Object(space), constraints)
}

fn document(key: Key, searcher: &str, scheduler: &str, objectives: usize) -> Option<Document> {
    let (space, constraints) = space(key, searcher == "grid");
    let each = (0..objectives).map(|i| json!({"metric": format!("m{i}"), "mode": "maximize"}));
    let spec = json!({
        "seed": key.bits(9) % 1000,
        "hyperparameters": space,
        "constraints": constraints,
        "objectives": each.collect::<Vec<_>>(),
        "searcher": {"name": searcher, "max_trials": 14},
    });
    let set = [format!("scheduler={{{scheduler}}}")];
    Document::parse_search(&spec.to_string(), &set).ok()
}

/// One call, and its answer.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Asked(Ask),
    Reported(TrialId, u64, Vec<Option<f64>>, Decision),
    Told(TrialId, Vec<Option<f64>>),
    Failed(TrialId, Outcome),
    Preempted(TrialId),
}

/// Drives a study to its end; `seen` gets every configuration.
fn drive(study: &mut Study, key: Key, mut seen: impl FnMut(&Params)) -> Vec<Event> {
    let mut events = Vec::new();
    let mut running: Vec<(Stretch, u64)> = Vec::new();
    for step in 0..20_000u64 {
        let key = key.with(step);
        if running.len() < 3 {
            let asked = study.ask();
            events.push(Event::Asked(asked.clone()));
            match asked {
                Ask::Train(stretch) => {
                    seen(&stretch.params);
                    let at = stretch.from.unwrap_or(0);
                    running.push((stretch, at));
                    continue;
                }
                Ask::Done if running.is_empty() => return events,
                Ask::Done | Ask::Wait => {}
            }
        }
        assert!(!running.is_empty(), "waits for nobody");
        let at = key.below(0, running.len() as u64) as usize;
        let (stretch, resource) = running[at].clone();
        let trial = stretch.trial;
        let values: Vec<Option<f64>> = (0..study.objectives().len() as u64)
            .map(|objective| (key.unit(1) < 0.95).then(|| key.with(objective).normal(2)))
            .collect();
        let fate = key.unit(3);
        let event = if fate < 0.05 {
            let outcome = [Outcome::Failed, Outcome::Nan, Outcome::Infeasible];
            let outcome = outcome[key.below(4, 3) as usize].clone();
            study.fail(trial, outcome.clone()).unwrap();
            running.remove(at);
            Event::Failed(trial, outcome)
        } else if fate < 0.1 {
            study.preempt(trial).unwrap();
            running.remove(at);
            Event::Preempted(trial)
        } else if let Some(until) = stretch.until {
            let next = resource + 1;
            let decision = study.report(trial, next, &values).unwrap();
            running[at].1 = next;
            if decision != Decision::Continue {
                running.remove(at);
            } else {
                assert!(
                    next < until,
                    "trial {trial} is neither paused nor stopped at {until}"
                );
            }
            Event::Reported(trial, next, values, decision)
        } else {
            study.tell(trial, &values).unwrap();
            running.remove(at);
            Event::Told(trial, values)
        };
        events.push(event);
    }
    panic!("no end");
}

/// Says the same to another study.
fn replay(study: &mut Study, events: &[Event]) {
    for event in events {
        match event {
            Event::Asked(ask) => assert_eq!(study.ask(), *ask),
            Event::Reported(trial, resource, values, decision) => {
                assert_eq!(
                    study.report(*trial, *resource, values).as_ref(),
                    Ok(decision)
                );
            }
            Event::Told(trial, values) => study.tell(*trial, values).unwrap(),
            Event::Failed(trial, outcome) => study.fail(*trial, outcome.clone()).unwrap(),
            Event::Preempted(trial) => study.preempt(*trial).unwrap(),
        }
    }
}

#[test]
fn every_search_of_any_space_ends_and_is_replayed() {
    let (mut combined, mut constrained) = (0, 0);
    for (number, searcher) in SEARCHERS.iter().enumerate() {
        for (other, scheduler) in SCHEDULERS.iter().enumerate() {
            for seed in 0..3 {
                let key = Key::new(seed).with(number as u64).with(other as u64);
                let objectives = 1 + usize::from(seed == 2);
                let Some(document) = document(key, searcher, scheduler, objectives) else {
                    continue;
                };
                combined += 1;
                let space = document.space();
                constrained += usize::from(space.is_constrained());
                let mut study = Study::of(document.job()).unwrap();
                let mut tried = BTreeSet::new();
                let mut begun = 0;
                let events = drive(&mut study, key.named("world"), |params| {
                    space
                        .contains(params)
                        .unwrap_or_else(|e| panic!("{searcher}: {e}"));
                    begun += 1;
                    tried.insert(space.fingerprint(params));
                });
                if *searcher == "grid" && *scheduler == "name: fifo" {
                    let asked = |e: &&Event| matches!(e, Event::Asked(Ask::Train(_)));
                    let preempted = events.iter().filter(|e| matches!(e, Event::Preempted(_)));
                    let trials = events.iter().filter(asked).count() - preempted.count();
                    assert_eq!(tried.len(), trials, "a configuration twice: {events:?}");
                }
                let mut again = Study::of(document.job()).unwrap();
                replay(&mut again, &events);
            }
        }
    }
    assert!(combined > 250, "{combined} combinations were accepted");
    assert!(constrained > 15, "{constrained} had constraints");
}

#[test]
fn a_search_that_is_taken_over_goes_on_in_the_same_way() {
    for (number, searcher) in SEARCHERS.iter().enumerate() {
        let key = Key::new(77).with(number as u64);
        let Some(document) = document(key, searcher, "name: asha, max_resource: 9", 1) else {
            continue;
        };
        let job = document.job();
        let (mut live, mut taken) = (Searcher::of(job).unwrap(), Searcher::of(job).unwrap());
        for trial in 0..12 {
            let trial = TrialId(trial);
            let proposed = live.suggest(trial, Some(1));
            let Some(params) = &proposed else {
                assert_eq!(taken.suggest(trial, Some(1)), proposed);
                break;
            };
            // Every third is asked in earnest.
            let other = if trial.0 % 3 == 2 {
                taken.suggest(trial, Some(1))
            } else {
                taken.adopt(trial, Some(1), params)
            };
            assert_eq!(other, proposed, "{searcher}, trial {trial}");
            for searcher in [&mut live, &mut taken] {
                searcher.reached(trial, 1, Some(key.with(u64::from(trial.0)).normal(0)));
            }
        }
    }
}

#[test]
fn what_constraints_forbid_is_never_proposed() {
    // A fifth of the cube; 100,000 proposals in all.
    let spec = |searcher: &str, trials: u32| {
        json!({
            "hyperparameters": {
                "a": {"type": "double", "minval": 0, "maxval": 1},
                "b": {"type": "double", "minval": 0, "maxval": 1},
                "k": {"type": "categorical", "vals": ["x", "y", "z"]},
            },
            "constraints": ["a + b <= 0.8", "k != 'z' or a > 0.5"],
            "searcher": {"name": searcher, "max_trials": trials},
        })
    };
    let mut proposals = 0;
    for (searcher, trials) in [
        ("random", 60_000),
        ("sobol", 20_000),
        ("halton", 10_000),
        ("cma_es", 7_000),
        ("tpe", 1_500),
        ("dehb", 1_200),
        ("bohb", 300),
        ("gp", 120),
        ("nsga2", 300),
    ] {
        let document = Document::parse_search(&spec(searcher, trials).to_string(), &[]).unwrap();
        let mut study = Study::of(document.job()).unwrap();
        while let Ask::Train(stretch) = study.ask() {
            document.space().contains(&stretch.params).unwrap();
            let a = stretch.params["a"].as_f64().unwrap();
            study
                .tell(stretch.trial, &[Some((a - 0.45) * (a - 0.45))])
                .unwrap();
            proposals += 1;
        }
    }
    assert!(proposals > 100_000, "{proposals}");
}
