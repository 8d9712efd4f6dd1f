//! Who gets slots, who leaves for whom, and for whom slots are kept.

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{Decision, JobState, Key, Record, TrialState};
use std::collections::BTreeMap;
use trainyard_common::ids::JobId;

/// Jobs of the ranks that were assigned, in order.
fn placed(step: &Step) -> Vec<String> {
    let ranks = ranks(step).into_iter();
    ranks.map(|rank| rank.at.job.to_string()).collect()
}

/// Jobs whose attempts were asked to stop at a checkpoint.
fn asked(step: &Step) -> Vec<String> {
    let stops = step.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            message:
                ToWorker::Stop {
                    at,
                    checkpoint: true,
                    ..
                },
            ..
        } => Some(at.job.to_string()),
        _ => None,
    });
    stops.collect()
}

impl Bench {
    /// Time passes with heartbeats of session 1; what happened meanwhile.
    fn pass(&mut self, ms: u64) -> Step {
        let mut all = Step::default();
        let mut left = ms;
        while left > 0 {
            let part = left.min(2_000);
            left -= part;
            self.now += part;
            let session = SessionId(1);
            for event in [Event::Heartbeat { session }, Event::Tick] {
                let step = self.apply(event);
                all.records.extend(step.records);
                all.decisions.extend(step.decisions);
                all.effects.extend(step.effects);
            }
        }
        all
    }

    /// A rank ends at a checkpoint of this step, as it was asked to.
    fn leave(&mut self, rank: &RankRef, step: u64) -> Step {
        let saved = checkpoint(rank, step, "loss", 0.5);
        self.report(1, rank, ReportBody::Checkpoint(saved));
        self.report(1, rank, ended(Outcome::Preempted, ""))
    }

    fn complete(&mut self, rank: &RankRef) -> Step {
        self.report(1, rank, epoch(1, "loss", 1.0));
        self.report(1, rank, ended(Outcome::Completed, ""))
    }
}

#[test]
fn a_higher_priority_gets_the_slot_of_the_newest_at_its_checkpoint() {
    let mut bench = Bench::new();
    bench.apply(submit("1", program("low", 2, "")));
    let mut held = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    bench.now += 1_000;
    held.extend(ranks(&bench.apply(joined("v", 1, 2, vec![]))));
    let step = bench.apply(submit("2", program("high", 1, "priority: 1")));
    assert_eq!(asked(&step), ["low-1"]);
    let told = &step.decisions[0];
    assert_eq!(
        (told.what, told.trial),
        (Decision::Preempted, held[1].at.trial)
    );
    assert_eq!(
        told.reason,
        "preempted for high-2, of priority 1 over 0, which needs 1 cpu slots"
    );
    assert!(job(&bench, "high-2").note.contains("v:0 are kept for it"));
    // Asked once, however often the machine looks.
    assert_eq!(asked(&bench.apply(Event::Tick)), [""; 0]);
    let saved = checkpoint(&held[1], 7, "loss", 0.5);
    bench.report(2, &held[1], ReportBody::Checkpoint(saved));
    let step = bench.report(2, &held[1], ended(Outcome::Preempted, ""));
    assert_eq!(placed(&step), ["high-2"]);
    let waits = trial(&bench, "low-1", 1);
    assert_eq!((waits.state, waits.restarts), (TrialState::Pending, 0));
    let high = ranks(&step).remove(0);
    bench.report(2, &high, epoch(1, "loss", 1.0));
    let step = bench.report(2, &high, ended(Outcome::Completed, ""));
    let again = assigned(&step)[0];
    assert_eq!(again.at.trial, held[1].at.trial);
    assert_eq!(again.resume_from.as_ref().map(|from| from.step), Some(7));
    for (session, rank) in [(1, held[0].clone()), (2, ranks(&step).remove(0))] {
        bench.report(session, &rank, epoch(8, "loss", 1.0));
        bench.report(session, &rank, ended(Outcome::Completed, ""));
    }
    assert_eq!(job(&bench, "low-1").state, JobState::Completed);
}

#[test]
fn as_few_leave_as_can() {
    let mut bench = Bench::new();
    bench.apply(submit("1", program("one", 2, "")));
    let gang = "resources: {slots_per_trial: 2}";
    bench.apply(submit("2", program("two", 1, gang)));
    assert_eq!(ranks(&bench.apply(joined("w", 4, 1, vec![]))).len(), 4);
    let high = program("high", 1, &format!("priority: 3\n{gang}"));
    assert_eq!(asked(&bench.apply(submit("3", high))), ["two-2"]);
    // The slots are kept: a victim does not come back to them.
    let held: Vec<RankRef> = held(&bench, "two-2");
    bench.leave(&held[0], 1);
    assert_eq!(trial(&bench, "two-2", 0).state, TrialState::Running);
    let step = bench.leave(&held[1], 1);
    assert_eq!(placed(&step), ["high-3", "high-3"]);
    assert_eq!(trial(&bench, "two-2", 0).state, TrialState::Pending);
}

/// The ranks that hold slots for a job.
fn held(bench: &Bench, job: &str) -> Vec<RankRef> {
    let workers = bench.machine.workers.values();
    let held = workers.flat_map(crate::cluster::model::Worker::held);
    held.filter(|rank| rank.at.job.as_str() == job).collect()
}

#[test]
fn nobody_leaves_who_would_not_help() {
    let mut bench = Bench::new();
    bench.apply(submit("1", program("low", 1, "")));
    bench.apply(submit("2", program("equal", 1, "priority: 1")));
    bench.apply(submit("3", program("stays", 1, "preemptible: false")));
    assert_eq!(ranks(&bench.apply(joined("w", 3, 1, vec![]))).len(), 3);
    // One may be asked, and two are needed.
    let gang = "priority: 1\nresources: {slots_per_trial: 2}";
    assert_eq!(
        asked(&bench.apply(submit("4", program("gang", 1, gang)))),
        [""; 0]
    );
    let step = bench.apply(submit("5", program("small", 1, "priority: 1")));
    assert_eq!(asked(&step), ["low-1"]);
}

#[test]
fn a_search_preempts_for_as_many_trials_as_it_has() {
    let mut bench = Bench::new();
    bench.apply(submit("1", program("low", 4, "")));
    assert_eq!(ranks(&bench.apply(joined("w", 4, 1, vec![]))).len(), 4);
    let most = "priority: 1\nsearcher: {name: random, max_trials: 9, max_concurrent_trials: 3}";
    let step = bench.apply(submit("2", program("high", 0, most)));
    assert_eq!(asked(&step).len(), 3);
    let leaving: Vec<RankRef> = held(&bench, "low-1");
    let mut got = Vec::new();
    for rank in &leaving {
        let vacates = bench.machine.graces.vacates(&rank.at);
        if vacates {
            got.extend(placed(&bench.leave(rank, 1)));
        }
    }
    assert_eq!(got, ["high-2"; 3]);
    assert!(bench.machine.slots.all_kept().len() == 0);
}

#[test]
fn a_trial_is_not_preempted_for_ever() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("low", 1, "")));
    let mut rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    for number in 1..=crate::cluster::placing::asking::MAX_PREEMPTIONS {
        let high = program("high", 1, "priority: 1");
        let step = bench.apply(submit(&number.to_string(), high));
        assert_eq!(asked(&step), ["low-1"], "{number}");
        let high = ranks(&bench.leave(&rank, 1)).remove(0);
        rank = ranks(&bench.complete(&high)).remove(0);
        assert_eq!(rank.at.job.as_str(), "low-1");
    }
    let high = program("high", 1, "priority: 1");
    assert_eq!(asked(&bench.apply(submit("last", high))), [""; 0]);
    // Who waits for long is kept slots all the same.
    let patience = config().gang_wait_ms + config().reserve_ms;
    assert_eq!(asked(&bench.pass(patience)), ["low-1"]);
}

#[test]
fn a_gang_that_waits_is_kept_slots_and_others_use_the_rest() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("small", 99, "")));
    let started = ranks(&bench.apply(joined("w", 3, 1, vec![])));
    bench.apply(submit(
        "1",
        program("gang", 1, "resources: {slots_per_trial: 2}"),
    ));
    assert_eq!(asked(&bench.pass(config().gang_wait_ms - 2_000)), [""; 0]);
    let note = job(&bench, "gang-2").note;
    assert_eq!(note, "waits for 2 free cpu slots");
    bench.pass(2_000);
    let note = job(&bench, "gang-2").note;
    assert_eq!(
        note,
        "waits for 2 free cpu slots; w:0, w:1 are kept for it: it has waited for 20 s"
    );
    // The slot that is not kept goes on being used; the kept ones stay free.
    let next = ranks(&bench.complete(&started[2]));
    assert_eq!(next[0].at.job.as_str(), "small-1");
    assert_eq!(placed(&bench.complete(&started[0])), [""; 0]);
    assert_eq!(bench.machine.workers()[0].slots_kept, 1);
    let step = bench.pass(config().reserve_ms);
    assert_eq!(asked(&step), ["small-1"]);
    let told = step
        .decisions
        .iter()
        .find(|told| told.what == Decision::Preempted);
    assert_eq!(
        told.unwrap().reason,
        "gang-2 has waited for 50 s for slots that are kept for it"
    );
    let step = bench.leave(&started[1], 1);
    assert_eq!(placed(&step), ["gang-2", "gang-2"]);
    let told = step
        .decisions
        .iter()
        .find(|told| told.what == Decision::Placed);
    assert_eq!(
        told.unwrap().reason,
        "placed on w:0, w:1, kept for it because it has waited for 20 s from the beginning"
    );
}

#[test]
fn a_search_that_runs_does_not_push_its_equals_out() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("a", 1, "")));
    bench.apply(submit("1", program("b", 9, "")));
    assert_eq!(
        placed(&bench.apply(joined("w", 2, 1, vec![]))),
        ["a-1", "b-2"]
    );
    let patience = config().gang_wait_ms + config().reserve_ms;
    assert_eq!(asked(&bench.pass(3 * patience)), [""; 0]);
}

/// All that was stored.
#[derive(Default)]
struct Stored(BTreeMap<Key, Record>);

impl Stored {
    fn keep(&mut self, step: Step) -> Step {
        for record in &step.records {
            self.0.insert(record.key(), record.clone());
        }
        for key in &step.removed {
            self.0.remove(key);
        }
        step
    }

    fn restore(&self, bench: &mut Bench) {
        let records = self.0.values().cloned();
        let term = Term(bench.machine.term().0 + 1);
        bench.machine = Machine::restore(term, config(), bench.now, records).unwrap();
    }
}

#[test]
fn a_new_leader_keeps_the_place_in_the_queue() {
    let mut stored = Stored::default();
    let mut bench = Bench::new();
    stored.keep(bench.apply(submit("0", program("a", 1, ""))));
    let step = stored.keep(bench.apply(joined("w", 1, 1, vec![])));
    let rank = ranks(&step).remove(0);
    stored.keep(bench.apply(submit("1", program("late", 1, ""))));
    let waits = |bench: &Bench, job: &str| {
        let found = &bench.machine.jobs[&JobId(job.to_owned())];
        found.record.waiting_since_ms
    };
    let since = waits(&bench, "late-2");
    assert_eq!(since, Some(bench.now));
    stored.keep(bench.pass(config().gang_wait_ms + 2_000));
    assert!(job(&bench, "late-2").note.contains("w:0 are kept"));
    stored.restore(&mut bench);
    assert_eq!(waits(&bench, "late-2"), since);
    stored.keep(bench.apply(joined("w", 1, 1, vec![rank.clone()])));
    // Until every worker has had time to come back nobody is asked for anything.
    stored.keep(bench.pass(config().lease_ms - 2_000));
    assert!(bench.machine.slots.all_kept().len() == 0);
    stored.keep(bench.pass(4_000));
    assert!(job(&bench, "late-2").note.contains("w:0 are kept"));
    let step = stored.keep(bench.pass(config().reserve_ms));
    assert_eq!(asked(&step), ["a-1"]);
    // Once more, while it is on its way out: it is told again, and nobody else is.
    stored.restore(&mut bench);
    let step = stored.keep(bench.apply(joined("w", 1, 1, vec![rank.clone()])));
    assert_eq!(asked(&step), ["a-1"]);
    bench.pass(config().lease_ms + 2_000);
    let step = bench.leave(&rank, 1);
    assert_eq!(placed(&step), ["late-2"]);
    // And the one that left waits for its turn.
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
}

#[test]
fn a_new_leader_asks_nobody_for_who_has_asked_before() {
    let mut stored = Stored::default();
    let mut bench = Bench::new();
    stored.keep(bench.apply(submit("0", program("low", 2, ""))));
    let step = stored.keep(bench.apply(joined("w", 2, 1, vec![])));
    let held = ranks(&step);
    let step = stored.keep(bench.apply(submit("1", program("high", 1, "priority: 1"))));
    assert_eq!(asked(&step).len(), 1);
    stored.restore(&mut bench);
    let step = bench.apply(joined("w", 2, 1, held.clone()));
    assert_eq!(asked(&step).len(), 1, "told again");
    assert_eq!(asked(&bench.pass(config().lease_ms + 4_000)), [""; 0]);
    let vacating: Vec<_> = bench.machine.graces.vacating().cloned().collect();
    let leaves = held.iter().find(|rank| rank.at == vacating[0]).unwrap();
    assert_eq!(placed(&bench.leave(leaves, 1)), ["high-2"]);
}

#[test]
fn what_is_kept_is_let_go_with_its_job() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("low", 1, "")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    bench.apply(submit("1", program("high", 1, "priority: 1")));
    assert_eq!(bench.machine.slots.all_kept().len(), 1);
    bench.apply(Event::Cancel {
        request: "c".into(),
        job: "high-2".into(),
    });
    assert!(bench.machine.slots.all_kept().len() == 0);
    let step = bench.leave(&rank, 3);
    let again = assigned(&step)[0];
    assert_eq!(again.resume_from.as_ref().map(|from| from.step), Some(3));
}

#[test]
fn what_is_kept_on_a_worker_that_goes_is_kept_elsewhere() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("a", 2, "")));
    bench.apply(joined("w", 1, 1, vec![]));
    bench.apply(joined("v", 1, 2, vec![]));
    bench.apply(submit("1", program("b", 1, "")));
    bench.pass(1_000);
    let alive = |bench: &mut Bench| {
        for session in [1, 2] {
            let session = SessionId(session);
            bench.apply(Event::Heartbeat { session });
        }
    };
    for _ in 0..config().gang_wait_ms / 2_000 {
        bench.now += 2_000;
        alive(&mut bench);
        bench.apply(Event::Tick);
    }
    assert!(
        job(&bench, "b-2").note.contains("v:0 are kept"),
        "{}",
        job(&bench, "b-2").note
    );
    bench.apply(Event::Drain {
        worker: "v".into(),
        undo: false,
    });
    assert!(
        job(&bench, "b-2").note.contains("w:0 are kept"),
        "{}",
        job(&bench, "b-2").note
    );
}

#[test]
fn as_many_leave_as_a_quota_lets_gangs_begin() {
    let mut bench = Bench::new();
    bench.apply(Event::SetWorkspace {
        workspace: "small".to_owned(),
        change: crate::cluster::api::WorkspaceChange {
            max_cpu_slots: Some(5),
            ..crate::cluster::api::WorkspaceChange::default()
        },
    });
    bench.apply(submit("1", program("low", 8, "")));
    assert_eq!(ranks(&bench.apply(joined("w", 8, 1, vec![]))).len(), 8);
    // Four gangs of two would fit into what the others hold, and two into the quota.
    let more = "priority: 1\nworkspace: small\nresources: {slots_per_trial: 2}";
    let stopped = |step: &Step| -> Vec<RankRef> {
        let stops = step.effects.iter().filter_map(|effect| match effect {
            Effect::Send {
                message: ToWorker::Stop { at, .. },
                ..
            } => Some(at.clone()),
            _ => None,
        });
        stops.map(|at| RankRef { at, rank: 0 }).collect()
    };
    let mut leave = stopped(&bench.apply(submit("2", program("high", 4, more))));
    let mut left = 0;
    while let Some(rank) = leave.pop() {
        leave.extend(stopped(&bench.leave(&rank, 1)));
        left += 1;
    }
    assert_eq!(left, 4);
    assert_eq!(held(&bench, "high-2").len(), 4);
}
