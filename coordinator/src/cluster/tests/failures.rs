//! Failure kinds: each policy for each kind, and what the search is told.

use trainyard_common::spec::FailureKind;

use super::rules::{job, trial};
use super::*;
use crate::cluster::lifecycle::losses::MAX_LOSSES;
use crate::cluster::model::{JobState, Record, SearchEntry, TrialState};
use crate::search;

/// What a worker says for each kind.
fn outcome(kind: FailureKind) -> Outcome {
    match kind {
        FailureKind::Preempted => Outcome::Preempted,
        FailureKind::NodeLost => Outcome::NodeLost,
        FailureKind::Hung => Outcome::Hung,
        FailureKind::OutOfMemory => Outcome::OutOfMemory,
        FailureKind::Nan => Outcome::Nan,
        FailureKind::Infeasible => Outcome::Infeasible,
        FailureKind::Error => Outcome::Error,
    }
}

/// Two trials, of which the first fails in this way under this policy (the default: none).
fn failed(kind: FailureKind, policy: Option<&str>) -> (Bench, Step) {
    let policy = policy.map_or_else(String::new, |policy| {
        format!("failure_policy: {{{}: {policy}}}\n", kind.word())
    });
    let more = format!("{policy}max_restarts: 1\nretry_backoff: {{first: 2, cap: 3}}");
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 2, &more)));
    let held = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    let step = bench.report(1, &held[0], ended(outcome(kind), "told"));
    (bench, step)
}

/// What the search was told in a step.
fn told(step: &Step) -> Vec<search::Outcome> {
    let entries = step.records.iter().filter_map(|record| match record {
        Record::Search(entry) => Some(&entry.entry),
        _ => None,
    });
    entries
        .filter_map(|entry| match entry {
            SearchEntry::Observed(seen) => Some(seen.outcome.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_kind_has_its_default() {
    use FailureKind::*;
    // Kind, whether it is tried again, restarts that are counted, what the search is told.
    let table = [
        (Preempted, true, 0, None),
        (NodeLost, true, 0, None),
        (Hung, true, 0, None),
        (OutOfMemory, false, 0, Some(search::Outcome::OutOfMemory)),
        (Nan, false, 0, Some(search::Outcome::Nan)),
        (Infeasible, false, 0, Some(search::Outcome::Infeasible)),
        (Error, true, 1, None),
    ];
    for (kind, again, restarts, expected) in table {
        let (bench, step) = failed(kind, None);
        let first = trial(&bench, "a-1", 0);
        assert_eq!(first.state != TrialState::Failed, again, "{kind:?}");
        assert_eq!(first.restarts, restarts, "{kind:?}");
        assert_eq!(first.attempts[0].outcome, Some(outcome(kind)));
        assert_eq!(told(&step).first(), expected.as_ref(), "{kind:?}");
        assert_eq!(job(&bench, "a-1").state, JobState::Running, "{kind:?}");
    }
}

#[test]
fn every_policy_holds_for_every_kind() {
    for kind in FailureKind::ALL {
        let (mut bench, _) = failed(kind, Some("retry"));
        let first = trial(&bench, "a-1", 0);
        assert_eq!((first.state, first.restarts), (TrialState::Pending, 1));
        // The free slot goes to the second trial meanwhile; then the pause is over.
        let second = bench.machine.trial(&"a-1".into(), TrialId(1)).unwrap();
        assert_eq!(second.state, TrialState::Running, "{kind:?}");
        bench.later(2_000);
        let step = bench.apply(joined("v", 1, 2, vec![]));
        assert_eq!(ranks(&step)[0].at.trial, TrialId(0), "{kind:?}");
        let step = bench.report(2, &ranks(&step)[0], ended(outcome(kind), "told"));
        assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Failed);
        assert_eq!(told(&step), [search::Outcome::from(kind)], "{kind:?}");

        let (bench, _) = failed(kind, Some("retry_uncounted"));
        let first = trial(&bench, "a-1", 0);
        assert_eq!((first.state, first.restarts), (TrialState::Running, 0));

        let (bench, step) = failed(kind, Some("fail_trial"));
        let first = trial(&bench, "a-1", 0);
        assert_eq!(first.state, TrialState::Failed, "{kind:?}");
        assert_eq!(told(&step), [search::Outcome::from(kind)]);
        assert_eq!(job(&bench, "a-1").state, JobState::Running);

        let (bench, _) = failed(kind, Some("fail_job"));
        let job = job(&bench, "a-1");
        assert_eq!(job.state, JobState::Failed, "{kind:?}");
        let error = format!("failure_policy.{}: fail_job): told", kind.word());
        assert!(job.error.contains(&error), "{}", job.error);
    }
}

#[test]
fn uncounted_retries_end_but_for_preemptions() {
    for kind in FailureKind::ALL {
        let policy = format!("failure_policy: {{{}: retry_uncounted}}", kind.word());
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, &policy)));
        let mut step = bench.apply(joined("w", 1, 1, vec![]));
        for failure in 0..=MAX_LOSSES {
            assert_eq!(ranks(&step).len(), 1, "{kind:?} {failure}");
            let last = bench.report(1, &ranks(&step)[0], ended(outcome(kind), "told"));
            // The longest pause, heartbeats included.
            step = Step::default();
            step.effects.extend(last.effects);
            for _ in 0..30 {
                step.effects.extend(bench.later(2_000).effects);
                bench.apply(Event::Heartbeat {
                    session: SessionId(1),
                });
            }
        }
        let state = trial(&bench, "a-1", 0).state;
        assert_eq!(
            state == TrialState::Failed,
            kind != FailureKind::Preempted,
            "{kind:?}: {state:?}"
        );
    }
}

#[test]
fn a_log_of_before_kinds_were_told_apart_still_loads() {
    let old = r#"{"version": 1, "record": "search", "job": "a-1", "index": 1,
        "entry": {"observed": {"trial": 0, "outcome": "failed"}}}"#;
    let record = Record::decode("search/a-1/0000000001", old.as_bytes()).unwrap();
    let Record::Search(entry) = record else {
        panic!("{record:?}")
    };
    let SearchEntry::Observed(seen) = entry.entry else {
        panic!("{:?}", entry.entry)
    };
    assert_eq!(seen.outcome, search::Outcome::Failed);
    let outcome: Outcome = serde_json::from_str("\"invalid\"").unwrap();
    assert_eq!(outcome, Outcome::Infeasible);
}

/// Each attempt ends at once with what `error` says of its trial, until the job has ended. How many were started.
fn all_fail(more: &str, error: impl Fn(u32) -> String) -> (Bench, usize) {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 8, more)));
    let mut running = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    let mut started = 0;
    while !job(&bench, "a-1").state.ended() {
        let Some(rank) = running.pop() else {
            running = ranks(&bench.later(4_500));
            continue;
        };
        started += 1;
        let text = error(rank.at.trial.0);
        running.extend(ranks(&bench.report(1, &rank, ended(Outcome::Error, &text))));
    }
    (bench, started)
}

#[test]
fn a_program_that_fails_in_one_way_for_all_is_not_started_for_all() {
    let missing = |_| "No module named 'torchvision'".to_owned();
    let (bench, started) = all_fail("", missing);
    assert_eq!(started, 5);
    let failed = job(&bench, "a-1");
    assert_eq!(failed.state, JobState::Failed);
    assert!(
        failed
            .error
            .starts_with("5 trials have failed in the same way")
            && failed.error.ends_with("No module named 'torchvision'"),
        "{}",
        failed.error
    );
    assert_eq!(
        trial(&bench, "a-1", 4).error,
        "No module named 'torchvision'"
    );
    // Another number, and never.
    assert_eq!(all_fail("max_identical_failures: 2", missing).1, 2);
    assert_eq!(all_fail("max_identical_failures: 0", missing).1, 8 * 4);
    // Each in its own way.
    assert_eq!(all_fail("", |trial| format!("width {trial}")).1, 8 * 4);
}

#[test]
fn who_has_reported_shows_that_the_program_works() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 8, "max_restarts: 0")));
    let mut running = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    bench.report(1, &running[1], epoch(1, "loss", 0.5));
    for _ in 0..7 {
        let rank = running.remove(0);
        let step = bench.report(1, &rank, ended(Outcome::Error, "the same"));
        running.splice(0..0, ranks(&step));
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    assert_eq!(job(&bench, "a-1").trials.failed, 7);
}

#[test]
fn a_result_that_is_no_number_meets_the_policy_and_other_metrics_do_not() {
    let told = |epoch: u64, metrics: &[(&str, f64)]| {
        let metrics = metrics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        ReportBody::Progress(Point {
            step: epoch,
            epoch,
            metrics: metrics.collect(),
            end_of_epoch: true,
            epochs_from_zero: false,
            time_ms: 0,
        })
    };
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (policy, state) in [
            ("fail_trial", TrialState::Failed),
            ("retry", TrialState::Pending),
        ] {
            let more = format!("failure_policy: {{nan: {policy}}}\nmax_restarts: 1");
            let mut bench = Bench::new();
            bench.apply(submit("r", program("a", 1, &more)));
            let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
            let step = bench.report(1, &rank, told(1, &[("loss", 0.5), ("grad", value)]));
            assert_eq!(step.points.len(), 1);
            assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Running);
            let step = bench.report(1, &rank, told(2, &[("loss", value), ("acc", 0.5)]));
            assert_eq!(step.points[0].point.metrics.len(), 2, "the curve has it");
            let known = trial(&bench, "a-1", 0);
            assert_eq!(known.state, state, "{value} {policy}");
            assert_eq!(known.attempts[0].outcome, Some(Outcome::Nan));
            let error = &known.attempts[0].error;
            assert!(
                error.starts_with(&format!("loss is {value} at the end of epoch 2")),
                "{error}"
            );
            assert_eq!(known.best_value, Some(0.5));
            if policy == "retry" {
                // The same again is the same failure, once its slot is given back.
                bench.report(1, &rank, ended(Outcome::Cancelled, ""));
                let next = ranks(&bench.later(2_500)).remove(0);
                bench.report(1, &next, told(1, &[("loss", 0.5)]));
                bench.report(1, &next, told(2, &[("loss", value)]));
                assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Failed);
            }
            let records: Vec<Record> = bench.stored.values().cloned().collect();
            for record in records {
                let bytes = record.encode().unwrap();
                Record::decode(&record.key().0, &bytes).unwrap();
            }
        }
    }
}
