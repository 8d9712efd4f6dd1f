//! Objectives: the goal that ends a search, and the values of several.

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{JobState, TrialState};

/// A search of six trials with these objectives.
fn search(objectives: &str, more: &str) -> Document {
    let text = format!(
        "name: a\nentrypoint: {{command: [train]}}\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         objectives: [{objectives}]\nsearcher: {{name: random, max_trials: 6}}\n{more}\n"
    );
    Document::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

const LOSS: &str = "{metric: loss, mode: minimize, goal: 0.25}";
const ACCURACY: &str = "{metric: accuracy, mode: maximize, goal: 0.75}";

/// Two trials of the search run.
fn running(objectives: &str, more: &str) -> (Bench, Vec<RankRef>) {
    let mut bench = Bench::new();
    bench.apply(submit("r", search(objectives, more)));
    let held = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    assert_eq!(held.len(), 2);
    (bench, held)
}

fn closed(bench: &Bench) -> bool {
    let found = bench.machine.jobs.get(&"a-1".into()).unwrap();
    found.record.search_closed.is_some()
}

#[test]
fn a_search_ends_with_the_value_that_reaches_its_goal() {
    for (objective, metric, near, goal) in [
        (LOSS, "loss", 0.26, 0.25),
        (LOSS, "loss", 0.26, 0.1),
        (ACCURACY, "accuracy", 0.74, 0.75),
        (ACCURACY, "accuracy", 0.74, 0.9),
    ] {
        let (mut bench, held) = running(objective, "");
        // Neither a value that is only near, nor another's, nor one in the middle of an epoch.
        bench.report(1, &held[0], epoch(1, metric, near));
        bench.report(1, &held[0], epoch(2, "other", goal));
        bench.report(1, &held[0], epoch(3, "other", f64::NAN));
        let mut middle = epoch(4, metric, goal);
        if let ReportBody::Progress(point) = &mut middle {
            point.end_of_epoch = false;
        }
        bench.report(1, &held[0], middle);
        assert!(!closed(&bench), "{metric} {near}");
        bench.report(1, &held[0], epoch(5, metric, goal));
        assert!(closed(&bench), "{metric} {goal}");
        // Who runs stops at a checkpoint, and nobody else begins.
        for rank in &held {
            assert_eq!(job(&bench, "a-1").state, JobState::Running);
            let step = bench.report(1, rank, ended(Outcome::Preempted, ""));
            assert_eq!(ranks(&step), []);
        }
        let summary = job(&bench, "a-1");
        assert_eq!(summary.state, JobState::Completed);
        assert_eq!(summary.trials.total(), 2);
        assert_eq!(trial(&bench, "a-1", 1).state, TrialState::Completed);
    }
}

/// What is stored of a trial's values.
fn values(bench: &Bench) -> Vec<f64> {
    let found = bench.machine.jobs.get(&"a-1".into()).unwrap();
    found.trial(TrialId(0)).unwrap().record.values
}

fn told(bench: &mut Bench, rank: &RankRef, step: u64, ends: bool, metrics: &[(&str, f64)]) {
    let metrics = metrics
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    let point = Point {
        step,
        epoch: step,
        metrics: metrics.collect(),
        end_of_epoch: ends,
        epochs_from_zero: false,
        time_ms: 0,
    };
    bench.report(1, rank, ReportBody::Progress(point));
}

#[test]
fn several_values_count_together_at_the_end_of_an_epoch() {
    let both = "{metric: loss, mode: minimize}, {metric: accuracy, mode: maximize}";
    let (mut bench, held) = running(both, "scheduler: {name: asha, max_resource: 9, eta: 3}");
    let rank = &held[0];
    told(
        &mut bench,
        rank,
        1,
        true,
        &[("accuracy", 0.5), ("loss", 2.0)],
    );
    assert_eq!(values(&bench), [2.0, 0.5], "in the order of the objectives");
    told(
        &mut bench,
        rank,
        2,
        false,
        &[("accuracy", 0.6), ("loss", 1.0)],
    );
    assert_eq!(values(&bench), [2.0, 0.5], "not in the middle of an epoch");
    // One alone says nothing of the other.
    told(&mut bench, rank, 3, true, &[("loss", 1.0)]);
    assert_eq!(values(&bench), [0.0; 0]);
    told(
        &mut bench,
        rank,
        4,
        true,
        &[("loss", 1.0), ("accuracy", 0.7)],
    );
    assert_eq!(values(&bench), [1.0, 0.7]);
    told(
        &mut bench,
        rank,
        5,
        true,
        &[("loss", f64::NAN), ("accuracy", 0.7)],
    );
    assert_eq!(values(&bench), [0.0; 0]);
}

/// In logical time a result counts at its turn, at a rung or at the end of its trial: so does its goal, of whichever objective.
#[test]
fn in_logical_time_each_objective_has_its_goal() {
    const LOGICAL: &str = "logical_time: true\nlogical_workers: 2";
    let rungs = format!("{LOGICAL}\nscheduler: {{name: asha, max_resource: 9, eta: 3}}");
    let both = "{metric: loss, mode: minimize}, {metric: accuracy, mode: maximize, goal: 0.75}";
    for (more, outcome) in [
        (rungs.as_str(), Outcome::Paused),
        (LOGICAL, Outcome::Completed),
    ] {
        for (accuracy, reaches) in [(0.7, false), (0.8, true)] {
            let (mut bench, held) = running(both, more);
            let values = [("loss", 0.5), ("accuracy", accuracy)];
            for rank in &held {
                told(&mut bench, rank, 1, true, &values);
            }
            assert!(!closed(&bench), "not before its turn");
            for rank in &held {
                bench.report(1, rank, ended(outcome, ""));
            }
            assert_eq!(closed(&bench), reaches, "{more} {accuracy}");
        }
    }
}
