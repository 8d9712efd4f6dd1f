//! What counts of a learning curve: by epoch before step, merged within an epoch, once for each.

use std::collections::BTreeMap;

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{Decision, JobState, TrialState};

const ASHA: &str = "scheduler: {name: asha, max_resource: 9, eta: 3}";

/// A report of these metrics at the end of an epoch.
fn told(epoch: u64, step: u64, metrics: &[(&str, f64)]) -> ReportBody {
    let metrics = metrics
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    ReportBody::Progress(Point {
        step,
        epoch,
        metrics: metrics.collect(),
        end_of_epoch: true,
        epochs_from_zero: false,
        time_ms: 0,
    })
}

fn loss(epoch: u64, step: u64, value: f64) -> ReportBody {
    told(epoch, step, &[("loss", value)])
}

/// One trial that runs on a worker of one slot.
fn running(more: &str) -> (Bench, Assignment) {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, more)));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let assignment = assigned(&step)[0].clone();
    (bench, assignment)
}

/// The attempt ends with an error, and the next one begins after the pause.
fn fails(bench: &mut Bench, rank: &RankRef) -> (Step, Assignment) {
    let step = bench.report(1, rank, ended(Outcome::Error, "exit code 1"));
    let next = bench.later(2_500);
    let assignment = assigned(&next)[0].clone();
    (step, assignment)
}

fn repeated(step: &Step) -> Vec<String> {
    let told = step.decisions.iter();
    let told = told.filter(|told| told.what == Decision::Repeated);
    told.map(|told| told.reason.clone()).collect()
}

fn epochs(step: &Step) -> Vec<u64> {
    step.points.iter().map(|told| told.point.epoch).collect()
}

#[test]
fn a_program_that_goes_on_from_its_own_files_is_counted_by_its_epochs() {
    let (mut bench, first) = running("max_restarts: 2");
    let rank = rank_of(&first);
    for epoch in 1..=5 {
        bench.report(1, &rank, loss(epoch, epoch, 1.0 / epoch as f64));
    }
    let (_, second) = fails(&mut bench, &rank);
    assert_eq!((second.reported_epoch, second.reported_step), (5, 5));
    let rank = rank_of(&second);
    for epoch in 6..=8 {
        let step = bench.report(1, &rank, loss(epoch, epoch - 5, 1.0 / epoch as f64));
        assert_eq!(epochs(&step), [epoch]);
        assert!(repeated(&step).is_empty());
    }
    bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(job(&bench, "a-1").best_value, Some(0.125));
}

#[test]
fn under_rungs_every_trial_has_its_best_value() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 16, ASHA)));
    let mut files: BTreeMap<u32, u64> = BTreeMap::new();
    let step = bench.apply(joined("w", 2, 1, vec![]));
    let mut running: Vec<Assignment> = assigned(&step).into_iter().cloned().collect();
    let value = |number: u32, epoch: u64| f64::from(number + 1) / epoch as f64;
    while let Some(next) = running.pop() {
        let (number, rank) = (next.at.trial.0, rank_of(&next));
        let from = files.get(&number).copied().unwrap_or(0);
        let until = next.until_epoch.unwrap();
        let of = |epoch| loss(epoch, epoch - from, value(number, epoch));
        let mut bodies: Vec<ReportBody> = (from + 1..=until).map(of).collect();
        bodies.push(ended(Outcome::Paused, ""));
        let step = bench.reports(1, &rank, bodies);
        running.extend(assigned(&step).into_iter().cloned());
        files.insert(number, until);
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
    assert!(files.values().any(|epochs| *epochs == 9));
    for (number, epochs) in files {
        let best = trial(&bench, "a-1", number).best_value;
        assert_eq!(best, Some(value(number, epochs)), "trial {number}");
    }
}

#[test]
fn what_is_reported_again_does_not_count_and_is_told_once() {
    let (mut bench, first) = running("max_restarts: 2");
    let rank = rank_of(&first);
    for epoch in 1..=4 {
        bench.report(1, &rank, loss(epoch, epoch, 0.5));
    }
    let (step, second) = fails(&mut bench, &rank);
    assert!(repeated(&step).is_empty());
    let rank = rank_of(&second);
    for epoch in 1..=4 {
        // Counted on from what was told, as its worker counts.
        let step = bench.report(1, &rank, loss(epoch, 4 + epoch, 0.25));
        assert!(step.points.is_empty() && repeated(&step).is_empty());
    }
    assert_eq!(trial(&bench, "a-1", 0).best_value, Some(0.5));
    let step = bench.report(1, &rank, loss(5, 9, 0.4));
    assert_eq!(epochs(&step), [5]);
    let reasons = repeated(&step);
    assert_eq!(reasons.len(), 1);
    assert!(
        reasons[0].starts_with("epochs 1 to 4 were reported again"),
        "{reasons:?}"
    );
    bench.report(1, &rank, loss(3, 10, 0.1));
    let step = bench.report(1, &rank, loss(6, 11, 0.4));
    assert!(repeated(&step).is_empty(), "once for each attempt");
    // Whoever does not come beyond it is told at its end.
    let (_, third) = fails(&mut bench, &rank);
    let rank = rank_of(&third);
    bench.report(1, &rank, loss(6, 12, 0.4));
    let step = bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert!(repeated(&step)[0].starts_with("epoch 6 was reported again"));
    assert_eq!(trial(&bench, "a-1", 0).best_value, Some(0.4));
}

#[test]
fn reports_of_one_epoch_are_merged_and_the_objective_reaches_the_rung() {
    let objective = "objectives: [{metric: val/acc, mode: maximize}]";
    let text = format!(
        "name: a\nentrypoint: {{command: [train]}}\n{objective}\n{ASHA}\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         searcher: {{name: random, max_trials: 1}}\n"
    );
    let mut bench = Bench::new();
    bench.apply(submit("r", Document::parse(&text).unwrap()));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    // One step for both, and another attempt for what the first did not come to tell.
    let step = bench.report(1, &rank, told(1, 1, &[("train/loss", 1.0)]));
    assert_eq!(epochs(&step), [1]);
    assert_eq!(trial(&bench, "a-1", 0).best_value, None);
    let (_, again) = fails(&mut bench, &rank);
    let rank = rank_of(&again);
    let step = bench.report(1, &rank, told(1, 1, &[("train/loss", 1.0)]));
    assert!(step.points.is_empty());
    let step = bench.report(1, &rank, told(1, 1, &[("val/acc", 0.75)]));
    assert_eq!(epochs(&step), [1]);
    let rungs = step.records.iter().filter(|record| {
        let Record::Search(entry) = record else {
            return false;
        };
        let json = serde_json::to_string(&entry.entry).unwrap();
        json.contains("rung") && json.contains("0.75")
    });
    assert_eq!(rungs.count(), 1);
    let known = trial(&bench, "a-1", 0);
    assert_eq!(known.best_value, Some(0.75));
    let names: Vec<&str> = known
        .metrics
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["train/loss", "val/acc"]);
    bench.report(1, &rank, ended(Outcome::Paused, ""));
    // Nobody is promoted any more.
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Completed);
}

#[test]
fn several_objectives_may_be_reported_apart() {
    let text = "name: a\nentrypoint: {command: [train]}\n\
         hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n\
         objectives: [{metric: loss, mode: minimize}, {metric: time, mode: minimize}]\n\
         searcher: {name: random, max_trials: 2}\n\
         scheduler: {name: asha, max_resource: 4, eta: 2}\n";
    let mut bench = Bench::new();
    bench.apply(submit("r", Document::parse(text).unwrap()));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    bench.report(1, &rank, told(1, 1, &[("loss", 0.5)]));
    let step = bench.report(1, &rank, told(1, 2, &[("time", 3.0)]));
    let json = serde_json::to_string(&step.records).unwrap();
    assert!(json.contains("\"values\":[0.5,3.0]"), "{json}");
}

#[test]
fn a_rung_that_a_program_skips_is_reached_behind_it() {
    let (mut bench, first) = running(&format!(
        "{ASHA}\nsearcher: {{name: random, max_trials: 2}}"
    ));
    let rank = rank_of(&first);
    assert_eq!(first.until_epoch, Some(1));
    let step = bench.report(1, &rank, loss(2, 2, 0.5));
    let json = serde_json::to_string(&step.records).unwrap();
    assert!(
        json.contains("\"rung\":0") && json.contains("\"value\":0.5"),
        "{json}"
    );
}

#[test]
fn the_next_attempt_knows_how_epochs_are_counted() {
    let (mut bench, first) = running("max_restarts: 2");
    assert!(!first.epochs_from_zero);
    let rank = rank_of(&first);
    let ReportBody::Progress(point) = loss(1, 1, 0.5) else {
        unreachable!()
    };
    let shifted = Point {
        epochs_from_zero: true,
        ..point
    };
    bench.report(1, &rank, ReportBody::Progress(shifted));
    let (_, second) = fails(&mut bench, &rank);
    assert!(second.epochs_from_zero);
}

#[test]
fn merged_metrics_are_bounded_and_objectives_stay() {
    let (mut bench, first) = running("");
    let rank = rank_of(&first);
    bench.report(1, &rank, loss(1, 1, 0.5));
    for number in 0..1_000 {
        let name = format!("batch_{number}");
        bench.report(1, &rank, told(1, 1 + number, &[(name.as_str(), 1.0)]));
    }
    let known = trial(&bench, "a-1", 0).metrics;
    assert_eq!(known.len(), 256);
    assert!(known.contains(&("loss".to_owned(), 0.5)));
    assert!(known.contains(&("batch_999".to_owned(), 1.0)));
}

#[test]
fn records_of_an_earlier_version_tell_where_a_trial_stands() {
    let (mut bench, first) = running("max_restarts: 2");
    let rank = rank_of(&first);
    for epoch in 1..=3 {
        bench.report(1, &rank, loss(epoch, 100 * epoch, 0.5));
    }
    let old = |record: &Record| {
        let mut json: serde_json::Value =
            serde_json::from_slice(&record.encode().unwrap()).unwrap();
        if let Some(reported) = json.as_object_mut().and_then(|of| of.remove("reported")) {
            json["newest_point"] = serde_json::json!([reported["step"], true]);
        }
        Record::decode(&record.key().0, json.to_string().as_bytes()).unwrap()
    };
    let records: Vec<Record> = bench.stored.values().map(old).collect();
    bench.machine = Machine::restore(Term(2), config(), bench.now, records).unwrap();
    bench.apply(Event::WorkerJoined {
        info: worker("w", 1),
        secret: Some(SECRET),
        peer: Some(PEER),
        session: SessionId(1),
        running: vec![rank.clone()],
        term: Term(1),
    });
    let step = bench.report(1, &rank, loss(3, 150, 0.1));
    assert!(step.points.is_empty());
    let step = bench.report(1, &rank, loss(4, 1, 0.25));
    assert_eq!(epochs(&step), [4]);
    assert_eq!(trial(&bench, "a-1", 0).best_value, Some(0.25));
}

#[test]
fn a_search_whose_objective_never_comes_fails_and_says_which_metrics_do() {
    for (reports, note, error) in [
        (
            vec![told(1, 1, &[("val_loss", 0.5)])],
            "trial 0 does not report the objective `loss`; it reports `val_loss`; did you mean `val_loss`?",
            "no trial that completed has a finite value of the objective `loss`: trial 0 does not report",
        ),
        (
            vec![],
            "trial 0 has reported nothing, and the objective is `loss`",
            "no trial that completed has a finite value of the objective `loss`: trial 0 has reported nothing",
        ),
    ] {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 2, "")));
        let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
        for body in reports.clone() {
            bench.report(1, &rank, body);
        }
        let step = bench.report(1, &rank, ended(Outcome::Completed, ""));
        assert_eq!(job(&bench, "a-1").note, note);
        let rank = ranks(&step).remove(0);
        for body in reports {
            bench.report(1, &rank, body);
        }
        bench.report(1, &rank, ended(Outcome::Completed, ""));
        let failed = job(&bench, "a-1");
        assert_eq!(failed.state, JobState::Failed);
        assert!(failed.error.starts_with(error), "{}", failed.error);
    }
}

#[test]
fn an_epoch_without_the_objective_is_remarked_on_until_it_comes() {
    let (mut bench, first) = running("");
    let rank = rank_of(&first);
    bench.report(1, &rank, told(1, 1, &[("los", 0.5)]));
    assert_eq!(
        job(&bench, "a-1").note,
        "",
        "the objective may come in a report of its own"
    );
    bench.report(1, &rank, told(2, 2, &[("los", 0.5)]));
    let note = job(&bench, "a-1").note;
    assert!(
        note.ends_with("it reports `los`; did you mean `los`?"),
        "{note}"
    );
    bench.report(1, &rank, loss(2, 3, 0.5));
    assert_eq!(job(&bench, "a-1").note, "");
    bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
}
