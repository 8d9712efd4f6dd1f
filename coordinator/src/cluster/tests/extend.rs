//! More trials and more time for a search, running or completed, over restarts.

use trainyard_common::ids::JobId;

use super::rules::job;
use super::*;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::model::{JobState, JobSummary, Record};

fn extend(request: &str, job: &str, trials: u32, seconds: f64) -> Event {
    Event::Extend {
        request: request.into(),
        job: job.into(),
        trials,
        seconds,
    }
}

/// Runs everything that is placed to its end; gives the parameters of all trials, in order.
fn run_out(bench: &mut Bench, job: &str, mut step: Step) -> (Vec<String>, Step) {
    let mut seen = Step::default();
    loop {
        let placed = ranks(&step);
        seen.records.append(&mut step.records);
        seen.effects.append(&mut step.effects);
        let Some(rank) = placed.first().cloned() else {
            break;
        };
        let kind = ranks(&seen).len();
        assert!(kind < 1_000, "does not end");
        let more = bench.report(1, &rank, epoch(1, "loss", 1.0));
        seen.records.extend(more.records);
        step = bench.report(1, &rank, ended(Outcome::Completed, ""));
    }
    let trials = bench.machine.trials(&JobId::from(job)).unwrap();
    let params = trials
        .iter()
        .map(|trial| serde_json::Value::Object(trial.params.clone()).to_string());
    (params.collect(), seen)
}

fn restored(bench: &Bench, records: &[Record]) -> Machine {
    let newest = records.iter().map(|record| (record.key(), record.clone()));
    let newest: std::collections::BTreeMap<_, _> = newest.collect();
    Machine::restore(Term(2), config(), bench.now, newest.into_values()).unwrap()
}

#[test]
fn a_completed_search_goes_on_with_its_own_sequence_after_any_restart() {
    // What five trials at once would have been.
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 5, "seed: 3")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let (expected, _) = run_out(&mut bench, "a-1", step);

    for restarts in [false, true] {
        let mut bench = Bench::new();
        let mut records = bench.apply(submit("r", program("a", 2, "seed: 3"))).records;
        let step = bench.apply(joined("w", 1, 1, vec![]));
        let (two, seen) = run_out(&mut bench, "a-1", step);
        assert_eq!(two, expected[..2]);
        records.extend(seen.records);
        assert_eq!(job(&bench, "a-1").state, JobState::Completed);
        if restarts {
            bench.machine = restored(&bench, &records);
            bench.apply(joined("w", 1, 1, vec![]));
        }
        let mut step = bench.apply(extend("e", "a-1", 3, 0.0));
        let reply = Reply::Extended {
            job: "a-1".into(),
            state: JobState::Running,
            trials_expected: Some(5),
        };
        assert_eq!(step.reply, Some(reply));
        // The same request again adds nothing.
        records.extend(step.records.clone());
        let again = bench.apply(extend("e", "a-1", 3, 0.0));
        assert_eq!(job(&bench, "a-1").trials_expected, Some(5));
        assert!(ranks(&again).is_empty());
        step.records.clear();
        if restarts {
            // Between the extension and its trials; the placed one is told again by its worker.
            let held = ranks(&step);
            bench.machine = restored(&bench, &records);
            bench.apply(joined("w", 1, 1, held));
        }
        let (all, seen) = run_out(&mut bench, "a-1", step);
        assert_eq!(all, expected, "{restarts}");
        records.extend(seen.records);
        let ended = job(&bench, "a-1");
        assert_eq!(
            (ended.state, ended.trials.completed),
            (JobState::Completed, 5)
        );
        let later = restored(&bench, &records);
        let kept = later.job(&"a-1".into()).unwrap();
        assert_eq!(kept.trials_expected, Some(5));
    }
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let completed = |more: &str, trials: u32| {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", trials, more)));
        let step = bench.apply(joined("w", 1, 1, vec![]));
        run_out(&mut bench, "a-1", step);
        bench
    };
    let choices = "hyperparameters: {x: {type: categorical, vals: [1, 2, 3]}}";
    let small = |searcher: &str| {
        let text = format!(
            "name: a\nentrypoint: {{command: [train]}}\n{choices}\n\
             objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{{searcher}}}\n"
        );
        let document = Document::parse(&text).unwrap();
        let mut bench = Bench::new();
        bench.apply(submit("r", document));
        let step = bench.apply(joined("w", 1, 1, vec![]));
        run_out(&mut bench, "a-1", step);
        bench
    };
    let timed = "searcher: {name: random, max_trials: 2, max_time: 60}";
    let mut passed = completed(timed, 0);
    passed.now += 100_000;
    let table = [
        (completed("", 1), 0, 0.0, "neither trials nor time"),
        (completed("", 1), 0, -1.0, "-1 given"),
        (completed("", 1), 1, f64::NAN, "NaN given"),
        (completed("", 1), 0, 60.0, "no max_time"),
        (completed(timed, 0), 0, 60.0, "every one of its 2 trials"),
        (passed, 1, 0.0, "max_time has passed"),
        (small("name: grid"), 1, 0.0, "no more than 0 configurations"),
        (
            small("name: grid, max_trials: 2"),
            2,
            0.0,
            "no more than 1 configurations",
        ),
        (
            small("name: random, max_trials: 2"),
            2,
            0.0,
            "no more than 1 configurations",
        ),
    ];
    for (mut bench, trials, seconds, why) in table {
        let event = extend("e", "a-1", trials, seconds);
        let error = bench.ask(event).unwrap_err();
        assert!(error.to_string().contains(why), "{error}: {why}");
        assert_eq!(job(&bench, "a-1").state, JobState::Completed);
    }
    let mut bench = completed("", 1);
    bench.apply(submit("s", program("b", 1, "")));
    bench.apply(Event::Cancel {
        request: "c".into(),
        job: "b-2".into(),
    });
    let error = bench.machine.apply(bench.now, extend("e", "b-2", 1, 0.0));
    assert!(matches!(error, Err(Rejection::Ended { .. })), "{error:?}");
}

#[test]
fn added_time_counts_from_now_where_the_old_has_passed() {
    let searcher =
        "searcher: {name: random, max_trials: 9, max_time: 60, max_concurrent_trials: 1}";
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 0, searcher)));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let pass = |bench: &mut Bench, seconds: u64| {
        let mut placed = 0;
        for _ in 0..seconds {
            bench.now += 1_000;
            let step = bench.apply(Event::Heartbeat {
                session: SessionId(1),
            });
            placed += ranks(&step).len();
        }
        placed
    };
    pass(&mut bench, 61);
    bench.report(1, &rank, epoch(1, "loss", 1.0));
    bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
    pass(&mut bench, 1_000);
    let next = ranks(&bench.apply(extend("e", "a-1", 0, 30.0)))[0].clone();
    pass(&mut bench, 29);
    bench.report(1, &next, epoch(1, "loss", 1.0));
    let step = bench.report(1, &next, ended(Outcome::Completed, ""));
    let last = ranks(&step)[0].clone();
    pass(&mut bench, 2);
    bench.report(1, &last, epoch(1, "loss", 1.0));
    let step = bench.report(1, &last, ended(Outcome::Completed, ""));
    assert!(ranks(&step).is_empty());
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
}

#[test]
fn a_winner_that_is_being_judged_is_judged_again_at_the_new_end() {
    let mut bench = Bench::new();
    let document = network("net", 1).to_json().to_string();
    let fewer = document.replacen("\"name\":\"grid\"", "\"name\":\"grid\",\"max_trials\":1", 1);
    bench.apply(submit("r", Document::parse(&fewer).unwrap()));
    let finish = |bench: &mut Bench, rank: &RankRef, value: f64| {
        bench.report(1, rank, epoch(1, "validation_loss", value));
        let saved = checkpoint(rank, 1, "validation_loss", value);
        bench.report(1, rank, ReportBody::Checkpoint(saved));
        bench.report(1, rank, ended(Outcome::Completed, ""))
    };
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let judge = ranks(&finish(&mut bench, &rank, 0.5))[0].clone();
    assert_eq!(job(&bench, "net-1").state, JobState::Evaluating);
    assert!(ranks(&bench.apply(extend("e", "net-1", 1, 0.0))).is_empty());
    assert_eq!(job(&bench, "net-1").state, JobState::Running);
    let step = bench.report(1, &judge, ended(Outcome::Cancelled, ""));
    let rank = ranks(&step)[0].clone();
    assert_eq!(rank.at.trial, TrialId(1));
    let judge = ranks(&finish(&mut bench, &rank, 0.1))[0].clone();
    assert_eq!(judge.at.trial, TrialId(1), "the new winner");
    bench.report(1, &judge, ended(Outcome::Completed, ""));
    let ended = job(&bench, "net-1");
    assert_eq!(
        (ended.state, ended.test_metrics.len()),
        (JobState::Completed, 1)
    );
}

/// An ended job needs no searcher, however much it has learnt, and neither does one that was restored: its search
/// is as its log says when somebody wants more of it.
#[test]
fn an_ended_search_rests_until_it_is_extended() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 3, "seed: 3")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    run_out(&mut bench, "a-1", step);
    let id = JobId::from("a-1");
    let rests = |bench: &Bench| bench.machine.jobs[&id].mind.rests();
    assert!(rests(&bench));
    // Extensions are entries of the log: what was read before one is not the whole any more.
    let stale = bench.awake(&id);
    bench.apply(stale.clone());
    assert!(!rests(&bench));
    let refused = bench.machine.apply(bench.now, extend("x", "a-1", 0, 0.0));
    assert!(matches!(refused, Err(Rejection::Extend { .. })));
    assert!(rests(&bench), "nobody goes on with it");
    let asleep = bench.machine.apply(bench.now, extend("e", "a-1", 1, 0.0));
    assert_eq!(asleep.unwrap_err(), Rejection::Asleep(id.clone()));
    let step = bench.apply(extend("e", "a-1", 1, 0.0));
    assert!(!rests(&bench));
    run_out(&mut bench, "a-1", step);
    assert!(rests(&bench));
    bench.apply(stale);
    assert!(rests(&bench), "its log has gone on since");
}

/// Six numbers in ascending order: 210 of 1,000,000 configurations.
fn ascending(trials: u32) -> Document {
    let number = "{type: int, minval: 0, maxval: 9}";
    let numbers: Vec<String> = (0..6).map(|i| format!("x{i}: {number}")).collect();
    let below: Vec<String> = (0..5).map(|i| format!("x{i} < x{}", i + 1)).collect();
    let text = format!(
        "name: a\nentrypoint: {{command: [train]}}\nhyperparameters: {{{}}}\nconstraints: {below:?}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{name: random, max_trials: {trials}}}\n",
        numbers.join(", ")
    );
    Document::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// The jobs as they are once their searches have been read.
fn settled(machine: &Machine) -> Vec<JobSummary> {
    let mut jobs = machine.jobs();
    jobs.iter_mut().for_each(|job| job.working.clear());
    jobs
}

/// Work that grows with a space, until now, in the job's space as the machine has it.
fn looked(machine: &Machine) -> u64 {
    machine.document(&"a-1".into()).unwrap().space().looked()
}

#[test]
fn a_space_is_looked_through_when_its_spec_is_read_and_never_in_the_loop() {
    let mut bench = Bench::new();
    let document = ascending(12);
    let before = document.space().looked();
    assert!((1..7_000).contains(&before), "{before}");
    bench.apply(submit("r", document));
    assert_eq!(looked(&bench.machine), before);
    let step = bench.apply(joined("w", 1, 1, vec![]));
    run_out(&mut bench, "a-1", step);
    assert_eq!(job(&bench, "a-1").trials_expected, Some(12));
    let each = (looked(&bench.machine) - before) / 12;
    assert!(each < 400, "{each} positions for each suggestion");
}

#[test]
fn a_take_over_looks_through_no_space_and_replays_no_ended_search() {
    let mut bench = Bench::new();
    bench.apply(submit("r", ascending(12)));
    let mut step = Some(bench.apply(joined("w", 1, 1, vec![])));
    // Under way, and ended.
    for _ in 0..2 {
        let records: Vec<Record> = bench.stored.values().cloned().collect();
        let restored = restored(&bench, &records);
        assert_eq!(looked(&restored), 0);
        assert_eq!(settled(&restored), bench.machine.jobs());
        if let Some(step) = step.take() {
            run_out(&mut bench, "a-1", step);
        }
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
    // An ended search is not replayed: it would not.
    let mut records: Vec<Record> = bench.stored.values().cloned().collect();
    for record in &mut records {
        if let Record::Search(entry) = record {
            entry.entry = crate::cluster::model::SearchEntry::Promoted {
                trial: TrialId(0),
                rung: 7,
                params: None,
            };
        }
    }
    assert_eq!(restored(&bench, &records).jobs(), bench.machine.jobs());
}

/// What an older version wrote has neither count nor end: they are found out once, and written.
#[test]
fn records_without_counts_are_counted_once() {
    let mut bench = Bench::new();
    bench.apply(submit("r", ascending(12)));
    let mut records: Vec<Record> = bench.stored.values().cloned().collect();
    for record in &mut records {
        match record {
            Record::Spec(spec) => assert!(spec.space.take().is_some()),
            Record::Job(job) => assert!(job.expected.take().is_some()),
            _ => {}
        }
    }
    let mut old = restored(&bench, &records);
    assert_eq!(looked(&old), 0, "not in the loop");
    let step = old.apply(bench.now, Event::Tick).unwrap();
    let mut written = step.records;
    for effect in step.effects {
        if let Effect::Search { job, ticket, task } = effect {
            let computed = task.run();
            let searched = Event::Searched {
                job,
                ticket,
                computed,
            };
            written.extend(old.apply(bench.now, searched).unwrap().records);
        }
    }
    assert!(looked(&old) > 0);
    assert_eq!(old.jobs(), bench.machine.jobs());
    let newest = records.into_iter().chain(written);
    let newest: Vec<Record> = newest.collect();
    let again = restored(&bench, &newest);
    assert_eq!(looked(&again), 0);
    assert_eq!(settled(&again), bench.machine.jobs());
}
