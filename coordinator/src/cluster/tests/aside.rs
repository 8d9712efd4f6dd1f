//! Jobs whose records cannot be understood are set aside, and all others go on.

use super::rules::job;
use super::*;
use crate::cluster::model::{JobState, TrialState};

/// Two jobs with trials under way, and what is stored of them.
fn two() -> (Bench, Vec<RankRef>) {
    let mut bench = Bench::new();
    bench.apply(submit("1", program("a", 2, "")));
    bench.apply(submit("2", program("b", 2, "")));
    let running = ranks(&bench.apply(joined("w", 3, 1, vec![])));
    (bench, running)
}

/// The same records after `change` of the first job's.
fn changed(bench: &Bench, change: Change) -> Vec<Record> {
    let stored = bench.stored.values();
    let changed = stored.filter_map(|record| {
        let key = record.key().0;
        let mut json = serde_json::from_slice(&record.encode().unwrap()).unwrap();
        if key.contains("/a-1") && !change(&mut json) {
            return None;
        }
        Some(Record::decode(&key, json.to_string().as_bytes()).unwrap())
    });
    changed.collect()
}

fn restored(bench: &Bench, records: Vec<Record>) -> Machine {
    Machine::restore(Term(2), config(), bench.now, records).unwrap()
}

type Change = fn(&mut serde_json::Value) -> bool;

const CASES: [(&str, Change); 3] = [
    ("its spec cannot be read: ", |json| {
        if json["record"] == "spec" {
            json["document"]["scheduler"] = serde_json::json!({"name": "of_tomorrow"});
        }
        true
    }),
    ("its spec is missing", |json| json["record"] != "spec"),
    ("its trials or its search log have a gap", |json| {
        json["record"] != "search" || json["index"].as_u64().is_some_and(|index| index != 0)
    }),
];

/// What a step changes of the job.
fn changes(step: &Step) -> Vec<String> {
    let records = step.records.iter().map(|record| record.key().0);
    let removed = step.removed.iter().map(|key| key.0.clone());
    let all = records.chain(removed);
    all.filter(|key| key.contains("/a-1")).collect()
}

/// The cluster after a restart with the changed records, to which the worker has come back.
fn damaged(bench: &Bench, running: &[RankRef], change: Change) -> (Bench, Step) {
    let mut other = Bench::new();
    other.now = bench.now;
    other.sequence = bench.sequence;
    other.machine = restored(bench, changed(bench, change));
    let step = other.apply(joined("w", 3, 1, running.to_vec()));
    (other, step)
}

#[test]
fn a_job_that_cannot_be_read_is_shown_as_failed_and_the_others_go_on() {
    for (why, change) in CASES {
        let (bench, running) = two();
        let (mut other, step) = damaged(&bench, &running, change);
        assert!(changes(&step).is_empty());
        let set_aside = job(&other, "a-1");
        assert_eq!(set_aside.state, JobState::Failed);
        let error = format!("set aside: {why}");
        assert!(set_aside.error.starts_with(&error), "{}", set_aside.error);
        let jobs = other.machine.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.job.as_str()).collect();
        assert_eq!(names, ["a-1", "b-2"]);
        let id = JobId::from("a-1");
        assert!(other.machine.spec_json(&id).is_some());
        assert_eq!(other.machine.trials(&id), Some(Vec::new()));
        assert_eq!(running[2].at.job, JobId::from("b-2"));
        let mut left = vec![running[2].clone()];
        left.extend(ranks(&step));
        assert_eq!(left.len(), 2);
        for rank in left {
            other.report(1, &rank, epoch(1, "loss", 0.5));
            let step = other.report(1, &rank, ended(Outcome::Completed, ""));
            assert!(changes(&step).is_empty());
        }
        assert_eq!(job(&other, "b-2").state, JobState::Completed);
    }
}

#[test]
fn nobody_changes_what_is_set_aside_until_it_can_be_read() {
    for (_, change) in CASES {
        let (bench, running) = two();
        let (mut other, _) = damaged(&bench, &running, change);
        let id = JobId::from("a-1");
        for event in [
            Event::Cancel {
                request: "c".into(),
                job: id.clone(),
            },
            Event::Pause {
                request: "p".into(),
                job: id.clone(),
                trial: None,
            },
            Event::Delete {
                request: "d".into(),
                job: id.clone(),
                force: true,
                checkpoints: true,
            },
        ] {
            let refused = other.machine.apply(other.now, event);
            assert!(
                matches!(refused, Err(Rejection::SetAside { .. })),
                "{refused:?}"
            );
        }
        // A new job has a number of its own, and a version that reads the records goes on.
        other.apply(submit("3", program("c", 1, "")));
        assert!(other.machine.job(&"c-3".into()).is_some());
        let machine = restored(&bench, bench.stored.values().cloned().collect());
        assert_eq!(machine.job(&id).unwrap().state, JobState::Running);
        let trial = machine.trial(&id, TrialId(0)).unwrap();
        assert_eq!(trial.state, TrialState::Running);
    }
}
