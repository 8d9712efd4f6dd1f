//! What people hold and let go: jobs and trials, over restarts, in every state.

use std::collections::BTreeMap;

use trainyard_common::ids::{JobId, TrialId};

use super::rules::{job, trial};
use super::*;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::model::{JobState, Key, Record, TrialState};

fn hold(pause: bool, request: &str, number: Option<u32>) -> Event {
    let (request, job) = (request.into(), JobId("a-1".to_owned()));
    let trial = number.map(TrialId);
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

/// A bench that keeps what is stored.
struct Kept {
    bench: Bench,
    stored: BTreeMap<Key, Record>,
}

impl Kept {
    fn new(trials: u32, slots: usize) -> (Self, Vec<RankRef>) {
        let mut kept = Self {
            bench: Bench::new(),
            stored: BTreeMap::new(),
        };
        kept.apply(submit("r", program("a", trials, "")));
        let step = kept.apply(joined("w", slots, 1, vec![]));
        (kept, ranks(&step))
    }

    fn apply(&mut self, event: Event) -> Step {
        let step = self.bench.apply(event);
        self.keep(&step);
        step
    }

    fn keep(&mut self, step: &Step) {
        for record in &step.records {
            self.stored.insert(record.key(), record.clone());
        }
    }

    /// The rank makes a checkpoint and ends.
    fn obey(&mut self, session: u64, rank: &RankRef) -> Step {
        let saved = checkpoint(rank, 1, "loss", 0.5);
        let step = self
            .bench
            .report(session, rank, ReportBody::Checkpoint(saved));
        self.keep(&step);
        let step = self
            .bench
            .report(session, rank, ended(Outcome::Preempted, ""));
        self.keep(&step);
        step
    }

    fn restart(&mut self) {
        let records = self.stored.values().cloned();
        let machine = Machine::restore(Term(2), config(), self.bench.now, records);
        self.bench.machine = machine.unwrap();
    }

    fn states(&self) -> Vec<TrialState> {
        let trials = self.bench.machine.trials(&"a-1".into()).unwrap();
        trials.into_iter().map(|trial| trial.state).collect()
    }
}

#[test]
fn a_paused_job_holds_no_slot_and_goes_on_after_a_restart() {
    let (mut kept, ranks) = Kept::new(3, 2);
    let reply = kept.apply(hold(true, "p", None)).reply;
    let held = |state| {
        Some(Reply::Held {
            job: "a-1".into(),
            state,
            trial: None,
        })
    };
    assert_eq!(reply, held(JobState::Paused));
    for rank in &ranks {
        assert_eq!(assigned(&kept.obey(1, rank)).len(), 0);
    }
    assert_eq!(kept.states(), [TrialState::Paused; 2]);
    assert_eq!(kept.bench.machine.cluster().slots_used, 0);
    kept.restart();
    let step = kept.apply(joined("v", 2, 2, vec![]));
    assert_eq!(assigned(&step).len(), 0, "it suggests nothing new either");
    assert_eq!(job(&kept.bench, "a-1").state, JobState::Paused);
    // The same request acts once: here it is only answered.
    assert_eq!(
        kept.apply(hold(true, "p", None)).reply,
        held(JobState::Paused)
    );
    let step = kept.apply(hold(false, "q", None));
    assert_eq!(step.reply, held(JobState::Running));
    let from: Vec<_> = assigned(&step)
        .iter()
        .map(|to| to.resume_from.as_ref().map(|from| from.step))
        .collect();
    assert_eq!(from, [Some(1), Some(1)]);
    assert_eq!(kept.states(), [TrialState::Running; 2]);
}

#[test]
fn a_job_is_paused_before_it_begins_and_while_its_winner_is_judged() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    bench.apply(hold(true, "p", None));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    assert_eq!(assigned(&step).len(), 0);
    let step = bench.apply(hold(false, "q", None));
    assert_eq!(assigned(&step).len(), 1);

    let mut bench = Bench::new();
    bench.apply(submit("r", network("a", 1)));
    let mut step = bench.apply(joined("w", 1, 1, vec![]));
    while job(&bench, "a-1").state != JobState::Evaluating {
        let rank = ranks(&step).remove(0);
        bench.report(1, &rank, epoch(1, "validation_loss", 0.5));
        let saved = checkpoint(&rank, 1, "validation_loss", 0.5);
        bench.report(1, &rank, ReportBody::Checkpoint(saved));
        step = bench.report(1, &rank, ended(Outcome::Completed, ""));
    }
    let judge = ranks(&step).remove(0);
    bench.apply(hold(true, "p", None));
    let step = bench.report(1, &judge, ended(Outcome::Preempted, ""));
    assert_eq!(assigned(&step).len(), 0);
    assert_eq!(job(&bench, "a-1").state, JobState::Paused);
    let step = bench.apply(hold(false, "q", None));
    assert_eq!(job(&bench, "a-1").state, JobState::Evaluating);
    let judge = ranks(&step).remove(0);
    bench.report(1, &judge, ended(Outcome::Completed, ""));
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
}

#[test]
fn a_job_whose_only_open_trial_is_paused_waits() {
    let (mut kept, ranks) = Kept::new(2, 2);
    kept.apply(hold(true, "p", Some(0)));
    let asked = trial(&kept.bench, "a-1", 0);
    assert_eq!(asked.state, TrialState::Running);
    kept.obey(1, &ranks[0]);
    kept.bench.report(1, &ranks[1], epoch(9, "loss", 0.5));
    kept.bench
        .report(1, &ranks[1], ended(Outcome::Completed, ""));
    assert_eq!(
        kept.states(),
        [TrialState::Paused, TrialState::Completed],
        "the other one went on"
    );
    assert_eq!(job(&kept.bench, "a-1").state, JobState::Running);
    let step = kept.apply(hold(false, "q", Some(0)));
    let rank = super::ranks(&step).remove(0);
    kept.bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(job(&kept.bench, "a-1").state, JobState::Completed);
}

#[test]
fn resuming_a_job_leaves_a_paused_trial_paused() {
    let (mut kept, ranks) = Kept::new(2, 2);
    kept.apply(hold(true, "p0", Some(0)));
    kept.apply(hold(true, "p", None));
    kept.obey(1, &ranks[0]);
    kept.obey(1, &ranks[1]);
    // A trial of a paused job does not go on alone.
    kept.apply(hold(true, "p1", Some(1)));
    kept.apply(hold(false, "q1", Some(1)));
    assert_eq!(kept.states(), [TrialState::Paused; 2]);
    kept.apply(hold(false, "q", None));
    assert_eq!(kept.states(), [TrialState::Paused, TrialState::Running]);
}

#[test]
fn who_is_resumed_on_the_way_to_a_pause_waits_for_slots() {
    let (mut kept, ranks) = Kept::new(1, 1);
    kept.apply(hold(true, "p", Some(0)));
    kept.apply(hold(false, "q", Some(0)));
    let step = kept.obey(1, &ranks[0]);
    assert_eq!(assigned(&step).len(), 1);
}

#[test]
fn a_trial_that_waits_is_paused_without_running() {
    let (mut kept, ranks) = Kept::new(1, 1);
    let step = kept
        .bench
        .report(1, &ranks[0], ended(Outcome::Error, "broken"));
    kept.keep(&step);
    assert_eq!(kept.states(), [TrialState::Pending]);
    kept.apply(hold(true, "p", Some(0)));
    assert_eq!(kept.states(), [TrialState::Paused]);
    kept.restart();
    let step = kept.apply(joined("w", 1, 2, vec![]));
    assert_eq!(assigned(&step).len(), 0);
    let cancel = Event::Cancel {
        request: "c".into(),
        job: "a-1".into(),
    };
    kept.apply(cancel);
    assert_eq!(kept.states(), [TrialState::Cancelled]);
    let refused = kept.bench.machine.apply(0, hold(false, "q", Some(0)));
    assert!(
        matches!(refused, Err(Rejection::Ended { .. })),
        "{refused:?}"
    );
    let unknown = kept.bench.machine.apply(0, hold(false, "q", Some(7)));
    assert!(matches!(unknown, Err(Rejection::UnknownTrial { .. })));
}

#[test]
fn a_paused_trial_whose_worker_is_lost_stays_paused() {
    let (mut kept, _) = Kept::new(1, 1);
    kept.apply(hold(true, "p", Some(0)));
    kept.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    let lease = config().lease_ms;
    let step = kept.bench.later(lease);
    kept.keep(&step);
    let step = kept.apply(joined("v", 1, 2, vec![]));
    assert_eq!(assigned(&step).len(), 0);
    assert_eq!(kept.states(), [TrialState::Paused]);
}

#[test]
fn time_that_a_job_was_paused_does_not_count_towards_max_time() {
    let mut bench = Bench::new();
    let limited = "searcher: {name: random, max_trials: 9, max_time: 100}";
    bench.apply(submit("r", program("a", 0, limited)));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step).remove(0);
    bench.apply(hold(true, "p", None));
    bench.report(1, &rank, ended(Outcome::Preempted, ""));
    bench.later(200_000);
    bench.apply(hold(false, "q", None));
    let step = bench.apply(joined("v", 2, 2, vec![]));
    assert_eq!(assigned(&step).len(), 2, "one goes on and one is new");
    bench.apply(Event::Heartbeat {
        session: SessionId(2),
    });
    let lease = config().lease_ms;
    for _ in 0..(100_000 / lease * 2) {
        bench.later(lease / 2);
        bench.apply(Event::Heartbeat {
            session: SessionId(2),
        });
    }
    let step = bench.apply(joined("u", 1, 3, vec![]));
    assert_eq!(assigned(&step).len(), 0, "max_time has passed");
}
