//! Rules that the simulator found broken, each in the smallest case that shows it.

use std::collections::BTreeMap;

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{JobState, Key, Record, TrialState};

/// The newest of each record.
#[derive(Default)]
struct Stored(BTreeMap<Key, Record>);

impl Stored {
    fn take(&mut self, step: &Step) {
        for record in &step.records {
            self.0.insert(record.key(), record.clone());
        }
        for key in &step.removed {
            self.0.remove(key);
        }
    }

    fn restore(&self, term: u64, now: u64) -> Machine {
        let records = self.0.values().cloned();
        Machine::restore(Term(term), config(), now, records).unwrap()
    }
}

/// Somebody pauses or resumes the job or one trial.
fn hold(request: &str, pause: bool, trial: Option<u32>) -> Event {
    let (request, job, trial) = (request.into(), "a-1".into(), trial.map(TrialId));
    match pause {
        true => Event::Pause {
            request,
            job,
            trial,
        },
        false => Event::Resume {
            request,
            job,
            trial,
        },
    }
}

#[test]
fn leaders_whose_clocks_differ_agree_on_when_a_job_began() {
    let mut bench = Bench::new();
    let mut stored = Stored::default();
    bench.now = 100_000;
    stored.take(&bench.apply(submit("r", program("a", 1, ""))));
    stored.take(&bench.apply(joined("w", 1, 1, vec![])));
    assert_eq!(job(&bench, "a-1").started_ms, 100_000);
    // The next leader's clock is behind.
    bench.machine = stored.restore(2, 50_000);
    bench.now = 50_000;
    stored.take(&bench.apply(Event::Tick));
    bench.now = 90_000;
    let third = stored.restore(3, 90_000);
    assert_eq!(job(&bench, "a-1").started_ms, 50_000);
    assert_eq!(third.jobs(), bench.machine.jobs());
}

#[test]
fn a_search_that_is_opened_again_did_not_begin_in_the_future() {
    let mut bench = Bench::new();
    let mut stored = Stored::default();
    bench.now = 100_000;
    stored.take(&bench.apply(submit("r", program("a", 1, ""))));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    stored.take(&step);
    stored.take(&bench.report(1, &ranks(&step)[0], epoch(1, "loss", 0.5)));
    stored.take(&bench.report(1, &ranks(&step)[0], ended(Outcome::Completed, "")));
    bench.machine = stored.restore(2, 50_000);
    bench.now = 50_000;
    let more = Event::Extend {
        request: "e".into(),
        job: "a-1".into(),
        trials: 1,
        seconds: 0.0,
    };
    stored.take(&bench.apply(more));
    assert_eq!(job(&bench, "a-1").started_ms, 50_000);
    assert_eq!(stored.restore(3, 50_000).jobs(), bench.machine.jobs());
}

#[test]
fn a_coordinator_that_stood_still_waits_longer_for_proofs_of_stores() {
    let mut machine = Machine::new(Term(1), config());
    let timeout = config().probe_timeout_ms;
    machine
        .apply(1_000, submit("r", program("a", 1, "")))
        .unwrap();
    let step = machine.apply(1_000, joined("w", 1, 1, vec![])).unwrap();
    let path = step.effects.iter().find_map(|effect| match effect {
        Effect::Probe { path, .. } => Some(path.clone()),
        _ => None,
    });
    // The answer waits in the queue behind this.
    let late = 1_000 + 2 * timeout;
    machine
        .apply(late, Event::Stalled { ms: 2 * timeout })
        .unwrap();
    let answer = Event::StoreProbed {
        worker: "w".into(),
        path: path.unwrap(),
        error: None,
    };
    let step = machine.apply(late, answer).unwrap();
    assert_eq!(assigned(&step).len(), 1);
}

#[test]
fn a_trial_that_is_resumed_within_its_pause_after_a_failure_goes_on_after_it() {
    let mut bench = Bench::new();
    let slow = "retry_backoff: {first: 15, cap: 15}";
    bench.apply(submit("r", program("a", 1, slow)));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    bench.report(1, &rank, ended(Outcome::Error, "once"));
    bench.apply(hold("p", true, None));
    bench.now = 9_000;
    let session = SessionId(1);
    bench.apply(Event::Heartbeat { session });
    // Deadlines are looked through anew; what is paused has none.
    bench.now = 14_000;
    bench.apply(Event::Heartbeat { session });
    bench.apply(Event::Tick);
    assert!(bench.machine.next_deadline().is_some_and(|at| at > 16_000));
    bench.apply(hold("s", false, None));
    assert_eq!(bench.machine.next_deadline(), Some(16_000));
    bench.now = 16_000;
    assert_eq!(ranks(&bench.apply(Event::Tick)).len(), 1);
}

#[test]
fn a_search_that_a_held_trial_alone_kept_open_ends_once_that_is_let_go() {
    let mut bench = Bench::new();
    let asha = "scheduler: {name: asha, max_resource: 3, eta: 3}";
    bench.apply(submit("r", program("a", 2, asha)));
    let mut step = bench.apply(joined("w", 1, 1, vec![]));
    for number in 0..2 {
        let rank = ranks(&step).remove(0);
        bench.report(1, &rank, epoch(1, "loss", f64::from(number)));
        if number == 0 {
            bench.apply(hold("p", true, Some(0)));
        }
        step = bench.report(1, &rank, ended(Outcome::Paused, ""));
    }
    // Of two results none is promoted: only the person's hand keeps the search.
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    bench.apply(hold("s", false, Some(0)));
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
}

#[test]
fn a_trial_that_is_resumed_on_its_way_to_a_pause_is_placed_when_it_is_promoted_meanwhile() {
    let mut bench = Bench::new();
    let asha = "scheduler: {name: asha, max_resource: 2, eta: 2}";
    bench.apply(submit("r", program("a", 2, asha)));
    let both = ranks(&bench.apply(joined("w", 3, 1, vec![])));
    bench.report(1, &both[0], epoch(1, "loss", 0.1));
    bench.apply(hold("p", true, None));
    bench.apply(hold("s", false, None));
    bench.report(1, &both[1], epoch(1, "loss", 0.9));
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Running);
    let step = bench.report(1, &both[0], ended(Outcome::Preempted, ""));
    assert_eq!(
        assigned(&step).len(),
        1,
        "it was promoted, and nobody holds it"
    );
    assert_eq!(assigned(&step)[0].until_epoch, Some(2));
}
