//! Failed trials are tried again once the program is mended; what has counted stays.

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{Decision, JobState, SearchEntry, TrialState};
use crate::cluster::view::replay::verify;

fn retry(request: &str, trial: Option<u32>) -> Event {
    Event::Retry {
        request: RequestId(request.to_owned()),
        job: "a-1".into(),
        trial: trial.map(TrialId),
    }
}

/// A job of four trials on two slots: the first has completed, the second has failed the job.
fn failed(more: &str) -> Bench {
    let mut bench = Bench::new();
    let more = format!("max_failed_trials: 1\nmax_restarts: 0\n{more}");
    bench.apply(submit("r", program("a", 4, &more)));
    let running = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    bench.report(1, &running[0], epoch(1, "loss", 0.5));
    bench.report(1, &running[0], ended(Outcome::Completed, ""));
    bench.report(1, &running[1], ended(Outcome::Error, "no module"));
    bench.later(1);
    assert_eq!(job(&bench, "a-1").state, JobState::Failed);
    bench
}

/// Whoever runs completes, until the job has ended.
fn complete(bench: &mut Bench, step: &Step) {
    let mut running = ranks(step);
    while let Some(rank) = running.pop() {
        bench.report(1, &rank, epoch(1, "loss", 0.25));
        running.extend(ranks(&bench.report(
            1,
            &rank,
            ended(Outcome::Completed, ""),
        )));
    }
}

fn log(bench: &Bench) -> Vec<SearchEntry> {
    let log = bench.stored.values().filter_map(|record| match record {
        Record::Search(record) => Some(record.entry.clone()),
        _ => None,
    });
    log.collect()
}

#[test]
fn a_failed_job_goes_on_and_keeps_what_has_completed() {
    let mut bench = failed("");
    // The cancelled one's worker ends what it ran.
    bench.apply(joined("w", 2, 2, vec![]));
    bench.apply(joined("w", 2, 1, vec![]));
    let step = bench.apply(retry("again", None));
    assert_eq!(job(&bench, "a-1").error, "");
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    let told = step
        .decisions
        .iter()
        .filter(|told| told.what == Decision::Retried);
    assert_eq!(
        told.count(),
        2,
        "the failed one and the one that was cancelled with the job"
    );
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Completed);
    assert_eq!(ranks(&step).len(), 2);
    complete(&mut bench, &step);
    let done = job(&bench, "a-1");
    assert_eq!(
        (done.state, done.trials.completed),
        (JobState::Completed, 4)
    );
    assert_eq!(trial(&bench, "a-1", 0).attempts.len(), 1);
    // The log tells it, and replays.
    let entries = log(&bench);
    let retried = |entry: &&SearchEntry| matches!(entry, SearchEntry::Retried { .. });
    assert_eq!(entries.iter().filter(retried).count(), 1);
    let document = bench.machine.shared_document(&"a-1".into()).unwrap();
    let params: Vec<_> = (0..4).map(|n| trial(&bench, "a-1", n).params).collect();
    let tally = verify(document.job(), &entries, |trial| {
        params.get(trial.0 as usize)
    })
    .unwrap();
    assert_eq!((tally.suggestions, tally.results), (4, 5));
    // Another coordinator answers alike, and the same request acts once.
    let records = bench.stored.values().cloned();
    let other = Machine::restore(Term(2), config(), bench.now, records).unwrap();
    assert_eq!(other.jobs(), bench.machine.jobs());
    let step = bench.apply(retry("again", None));
    assert!(step.records.is_empty());
}

#[test]
fn one_trial_may_be_tried_again_while_others_run() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 3, "max_restarts: 0")));
    let running = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    let step = bench.report(1, &running[0], ended(Outcome::Error, "disk full"));
    let second = ranks(&step).remove(0);
    bench.apply(retry("again", Some(0)));
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
    assert_eq!(job(&bench, "a-1").trials.failed, 0);
    bench.report(1, &second, epoch(1, "loss", 0.5));
    let step = bench.report(1, &second, ended(Outcome::Completed, ""));
    complete(&mut bench, &step);
    let done = job(&bench, "a-1");
    assert_eq!(
        (done.state, done.trials.completed),
        (JobState::Completed, 3)
    );
}

#[test]
fn what_cannot_be_tried_again_is_refused() {
    let mut bench = failed("");
    let refused = |bench: &mut Bench, event: Event| bench.ask(event).unwrap_err().to_string();
    let told = refused(&mut bench, retry("x", Some(0)));
    assert!(told.contains("trial 0 has not failed"), "{told}");
    assert!(matches!(
        bench.ask(retry("x", Some(9))),
        Err(Rejection::UnknownTrial { .. })
    ));
    let mut bench = failed("logical_time: true\nlogical_workers: 2");
    let told = refused(&mut bench, retry("x", None));
    assert!(told.contains("logical time"), "{told}");
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let told = refused(&mut bench, retry("x", None));
    assert!(told.contains("none of its trials has failed"), "{told}");
}

#[test]
fn under_rungs_it_trains_as_far_as_it_was_to() {
    let asha = "scheduler: {name: asha, max_resource: 4, eta: 2}";
    let mut bench = Bench::new();
    bench.apply(submit(
        "r",
        program("a", 3, &format!("max_restarts: 0\n{asha}")),
    ));
    let mut running = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    let mut seen = std::collections::BTreeMap::new();
    let mut broken = true;
    while let Some(rank) = running.pop() {
        let number = rank.at.trial.0;
        let step = if number == 1 && broken {
            broken = false;
            let step = bench.report(1, &rank, ended(Outcome::Error, "once"));
            bench.apply(retry("again", Some(1)));
            step
        } else {
            let from = seen.get(&number).copied().unwrap_or(0);
            let until = [1, 2, 4].into_iter().find(|rung| *rung > from).unwrap();
            for done in from + 1..=until {
                bench.report(
                    1,
                    &rank,
                    epoch(done, "loss", f64::from(number + 1) / done as f64),
                );
            }
            seen.insert(number, until);
            bench.report(1, &rank, ended(Outcome::Paused, ""))
        };
        running.extend(ranks(&step));
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
    let again = trial(&bench, "a-1", 1);
    assert_eq!(
        (again.state, again.best_value),
        (TrialState::Completed, Some(2.0))
    );
    assert!(
        again.reason.contains("gone on without it"),
        "{}",
        again.reason
    );
}
