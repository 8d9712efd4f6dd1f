//! What must end: retries of losses and of proofs; and what must not: leases that the coordinator itself
//! slept through.

use trainyard_common::ids::JobId;
use trainyard_common::spec::RetryBackoffSpec;

use super::rules::{job, trial};
use super::*;
use crate::cluster::lifecycle::losses::MAX_LOSSES;
use crate::cluster::model::{JobState, TrialState};

#[test]
fn a_trial_that_ends_its_worker_again_and_again_fails() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    for session in 1..=u64::from(MAX_LOSSES) + 1 {
        assert!(!job(&bench, "a-1").state.ended());
        // As long as no other pause is due.
        bench.later(RetryBackoffSpec::default().cap_ms());
        let step = bench.apply(joined("w", 1, session, vec![]));
        assert_eq!(ranks(&step).len(), 1, "loss {session}");
        bench.apply(Event::WorkerLost {
            session: SessionId(session),
        });
        bench.later(config().lease_ms);
    }
    let failed = trial(&bench, "a-1", 0);
    assert_eq!(failed.state, TrialState::Failed);
    assert!(
        failed.error.contains("11th time in a row"),
        "{}",
        failed.error
    );
    assert_eq!(job(&bench, "a-1").state, JobState::Failed);
}

#[test]
fn progress_starts_the_count_of_losses_anew() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    for session in 1..=u64::from(MAX_LOSSES) * 2 {
        bench.later(RetryBackoffSpec::default().cap_ms());
        let step = bench.apply(joined("w", 1, session, vec![]));
        let rank = ranks(&step).remove(0);
        let saved = checkpoint(&rank, session, "loss", 0.5);
        bench.report(session, &rank, ReportBody::Checkpoint(saved));
        bench.apply(Event::WorkerLost {
            session: SessionId(session),
        });
        bench.later(config().lease_ms);
    }
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
}

#[test]
fn what_the_coordinator_slept_through_expires_nobody() {
    let slept = 10 * config().lease_ms;
    for told in [true, false] {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, "")));
        bench.apply(joined("w", 1, 1, vec![]));
        bench.now += slept;
        if told {
            bench.apply(Event::Stalled { ms: slept });
        }
        bench.apply(Event::Tick);
        let state = trial(&bench, "a-1", 0).state;
        assert_eq!(state == TrialState::Running, told, "{state:?}");
        // The worker's own silence still counts.
        bench.later(config().lease_ms);
        assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
    }
}

#[test]
fn a_store_that_no_worker_can_use_fails_the_job_that_has_not_begun() {
    let mut bench = Bench::new();
    bench.shared = false;
    bench.apply(submit("r", program("a", 1, "")));
    bench.apply(joined("w", 1, 1, vec![]));
    for _ in 1..5 {
        assert_eq!(job(&bench, "a-1").state, JobState::Pending);
        let session = SessionId(1);
        bench.apply(Event::Heartbeat { session });
        bench.later(config().probe_retry_ms);
    }
    let failed = job(&bench, "a-1");
    assert_eq!(failed.state, JobState::Failed);
    assert!(
        failed
            .error
            .starts_with("checkpoint_storage.url: worker w could not use the store file:")
            && failed.error.ends_with("in 5 tries: not found"),
        "{}",
        failed.error
    );
}

#[test]
fn coordinators_that_share_a_bucket_write_apart() {
    let with = |cluster| MachineConfig {
        cluster,
        ..config()
    };
    let mut machine = Machine::new(Term(1), with(0xABC));
    let step = machine.apply(1, submit("r", program("a", 1, ""))).unwrap();
    let url = |machine: &Machine, name: &str| {
        machine.job(&JobId(name.to_owned())).unwrap().checkpoint_url
    };
    assert!(url(&machine, "a-1").ends_with("/a-1-00000abc"));
    // Whatever number a later process draws, the first one's stays.
    let mut again = Machine::restore(Term(2), with(0xDEF), 2, step.records).unwrap();
    again.apply(3, submit("s", program("b", 1, ""))).unwrap();
    assert!(url(&again, "b-2").ends_with("/b-2-00000abc"));
}

#[test]
fn specs_have_a_limit_together() {
    let document = || program("a", 1, "");
    let bytes = document().bytes();
    let config = MachineConfig {
        max_spec_bytes: 2 * bytes,
        ..config()
    };
    let mut machine = Machine::new(Term(1), config);
    let accept = |machine: &mut Machine, number: usize| {
        let submitted = machine.apply(0, submit(&format!("r-{number}"), document()));
        submitted.map(drop).map_err(|refused| refused.to_string())
    };
    let cancel = |machine: &mut Machine, number: usize| {
        let job = JobId(format!("a-{number}"));
        let request = format!("c-{number}").as_str().into();
        machine.apply(0, Event::Cancel { request, job }).unwrap();
    };
    accept(&mut machine, 1).unwrap();
    accept(&mut machine, 2).unwrap();
    let refused = accept(&mut machine, 3).unwrap_err();
    let expected = format!(
        "spec: {bytes} bytes given, and the specs of jobs that have not ended hold {} already; accepted: at most \
         {} in all; wait until some have",
        2 * bytes,
        2 * bytes
    );
    assert_eq!(refused, expected);
    // One that was accepted is answered again, whatever there is by now.
    accept(&mut machine, 2).unwrap();
    // Those that have ended take less, but not nothing.
    for number in 3..=8 {
        cancel(&mut machine, number - 1);
        accept(&mut machine, number).unwrap();
    }
    cancel(&mut machine, 8);
    let refused = accept(&mut machine, 9).unwrap_err();
    assert!(refused.contains("the specs of all jobs hold"), "{refused}");
    assert!(refused.ends_with("archive or delete some that have ended"));
}

/// A search whose next suggestion takes long, as its many known results say.
fn heavy(more: &str) -> Document {
    let known: Vec<String> = (0..400)
        .map(|n| format!("{{params: {{x: {}}}, value: {n}}}", f64::from(n) / 400.0))
        .collect();
    let known = known.join(", ");
    program(
        "heavy",
        8,
        &format!("searcher: {{name: gp, max_trials: 8, prior_results: [{known}]}}\n{more}"),
    )
}

#[test]
fn long_suggestions_come_one_at_a_time_and_let_others_in_between() {
    for more in ["", "logical_time: true\nlogical_workers: 8"] {
        let mut bench = Bench::new();
        bench.computes = false;
        // Logical workers ask before there are any others.
        let mut step = bench.apply(submit("r", heavy(more)));
        step.effects
            .extend(bench.apply(joined("w", 8, 1, vec![])).effects);
        assert_eq!(assigned(&step).len(), 0, "{more}: not in the loop");
        // Another job does not wait for it.
        let other = bench.apply(submit("s", program("light", 1, "priority: 1")));
        let [light] = assigned(&other).try_into().unwrap();
        assert!(light.at.job.0.starts_with("light"), "{more}");
        let mut placed = 0;
        loop {
            let asked = step.effects.into_iter().filter_map(|effect| match effect {
                Effect::Search { job, ticket, task } => Some((job, ticket, task)),
                _ => None,
            });
            let mut asked: Vec<_> = asked.collect();
            assert!(asked.len() <= 1, "{more}: {} at once", asked.len());
            let Some((job, ticket, task)) = asked.pop() else {
                break;
            };
            let computed = task.run();
            step = bench.apply(Event::Searched {
                job,
                ticket,
                computed,
            });
            let now = assigned(&step).len();
            assert!(now <= 1, "{more}: {now} at once");
            placed += now;
        }
        assert_eq!(placed, 7, "{more}: all slots but the other job's are used");
    }
}
