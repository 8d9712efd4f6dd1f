//! ASHA in the machine: trials that wait at rungs without slots, promotions that replay, the end.

use std::collections::BTreeMap;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key as Draw;

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{
    AttemptKind, Decision, JobState, Key, Record, SearchEntry, TrialState,
};

const ASHA: &str = "scheduler: {name: asha, max_resource: 9, eta: 3}";

/// A job under ASHA whose trials run on one worker, each rank when it is asked to.
struct World {
    bench: Bench,
    stored: BTreeMap<Key, Record>,
    running: Vec<Assignment>,
    decisions: Vec<(u32, Decision)>,
    most_slots: u32,
    session: u64,
    slots: usize,
    metric: &'static str,
}

/// What a trial comes to after an epoch; falls, so that later rungs have better values.
fn value(trial: u32, epoch: u64) -> f64 {
    f64::from(trial * 7 % 9) + 1.0 / epoch as f64
}

impl World {
    fn new(trials: u32, slots: usize) -> Self {
        Self::with(program("a", trials, ASHA), slots, "loss")
    }

    fn with(document: Document, slots: usize, metric: &'static str) -> Self {
        let mut world = Self {
            bench: Bench::new(),
            stored: BTreeMap::new(),
            running: Vec::new(),
            decisions: Vec::new(),
            most_slots: 0,
            session: 1,
            slots,
            metric,
        };
        world.apply(submit("r", document));
        world.apply(joined("w", slots, 1, vec![]));
        world
    }

    fn apply(&mut self, event: Event) {
        let step = self.bench.apply(event);
        self.take(step);
    }

    fn take(&mut self, step: Step) {
        for record in &step.records {
            self.stored.insert(record.key(), record.clone());
        }
        self.running.extend(assigned(&step).into_iter().cloned());
        let told = step.decisions.iter();
        self.decisions
            .extend(told.map(|told| (told.trial.0, told.what)));
        self.most_slots = self.most_slots.max(self.bench.machine.cluster().slots_used);
    }

    fn report(&mut self, rank: &RankRef, body: ReportBody) {
        let step = self.bench.report(self.session, rank, body);
        self.take(step);
    }

    /// The so-many-th running attempt trains as far as it was told to.
    fn train(&mut self, which: usize) -> u32 {
        let assignment = self.running.remove(which);
        let rank = rank_of(&assignment);
        let number = assignment.at.trial.0;
        let until = assignment.until_epoch.unwrap();
        let from = assignment.resume_from.as_ref().map_or(0, |from| from.epoch);
        for done in from + 1..=until {
            self.report(&rank, epoch(done, self.metric, value(number, done)));
        }
        let saved = checkpoint(&rank, until, self.metric, value(number, until));
        self.report(&rank, ReportBody::Checkpoint(saved));
        self.report(&rank, ended(Outcome::Paused, ""));
        number
    }

    /// The only worker is lost after it has told its first epoch's value.
    fn loses_its_worker(&mut self, value: f64) {
        let lost = self.running.remove(0);
        self.report(&rank_of(&lost), epoch(1, self.metric, value));
        self.apply(Event::WorkerLost {
            session: SessionId(self.session),
        });
        let step = self.bench.later(config().lease_ms);
        self.take(step);
    }

    fn restored(&self) -> Machine {
        let records = self.stored.values().cloned();
        Machine::restore(Term(1), config(), self.bench.now, records).unwrap()
    }

    fn log(&self) -> Vec<SearchEntry> {
        let log = self.stored.values().filter_map(|record| match record {
            Record::Search(record) => Some(record.entry.clone()),
            _ => None,
        });
        log.collect()
    }

    fn of(&self, what: Decision) -> Vec<u32> {
        let told = self.decisions.iter().filter(|told| told.1 == what);
        told.map(|told| told.0).collect()
    }
}

#[test]
fn the_best_of_each_rung_go_on_and_the_others_are_stopped_in_the_end() {
    // One slot: trials come one after the other, and each third result promotes.
    let mut world = World::new(9, 1);
    let mut order = Vec::new();
    while !world.running.is_empty() {
        let until = world.running[0].until_epoch.unwrap();
        let number = world.train(0);
        order.push((number, until));
    }
    // Values by trial: 0 7 5 3 1 8 6 4 2 (and 1 / epoch).
    let expected = [
        (0, 1),
        (1, 1),
        (2, 1),
        // Of three: trial 0.
        (0, 3),
        (3, 1),
        (4, 1),
        (5, 1),
        // Of six two: trials 0 and 4.
        (4, 3),
        (6, 1),
        (7, 1),
        (8, 1),
        // Of nine three: 0, 4 and 8.
        (8, 3),
        // On rung 1 three results: trial 0.
        (0, 9),
    ];
    assert_eq!(order, expected);
    assert_eq!(world.most_slots, 1);
    assert_eq!(world.of(Decision::Promoted), [0, 4, 8, 0]);
    let done = job(&world.bench, "a-1");
    assert_eq!(
        (done.state, done.best_trial, done.best_value),
        (JobState::Completed, Some(TrialId(0)), Some(1.0 / 9.0))
    );
    assert_eq!(done.trials.completed, 9);
    let reason = |number| trial(&world.bench, "a-1", number).reason;
    assert!(
        reason(1).starts_with("stopped at rung 0 of 2 (epoch 1)"),
        "{}",
        reason(1)
    );
    assert!(reason(4).starts_with("stopped at rung 1 of 2 (epoch 3)"));
    assert_eq!(reason(0), "has trained 9 epochs, `max_resource`");
    assert_eq!(world.of(Decision::Stopped), [1, 2, 3, 4, 5, 6, 7, 8]);
    // A promoted trial has gone on from its rung.
    let attempts = trial(&world.bench, "a-1", 0).attempts;
    let from: Vec<u64> = attempts.iter().map(|attempt| attempt.from_step).collect();
    assert_eq!(from, [0, 1, 3]);
}

#[test]
fn a_restart_at_any_moment_decides_the_same() {
    for seed in 0..20 {
        let draw = Draw::new(seed);
        let (mut whole, mut restarted) = (World::new(12, 3), World::new(12, 3));
        let mut turn = 0;
        while !whole.running.is_empty() {
            turn += 1;
            let which = draw.with(turn).below(0, whole.running.len() as u64) as usize;
            whole.train(which);
            // The other world's coordinator is another one each time; its worker stays.
            let machine = restarted.restored();
            assert_eq!(machine.jobs(), restarted.bench.machine.jobs());
            restarted.bench.machine = machine;
            restarted.session += 1;
            let running = restarted.running.iter().map(rank_of).collect();
            let slots = restarted.slots;
            restarted.apply(joined("w", slots, restarted.session, running));
            restarted.train(which);
            assert_eq!(restarted.log(), whole.log(), "seed {seed}, turn {turn}");
        }
        assert_eq!(job(&whole.bench, "a-1").state, JobState::Completed);
        assert!(whole.of(Decision::Promoted).len() > 3);
    }
}

#[test]
fn a_log_that_another_scheduler_would_not_have_written_is_noticed() {
    let mut world = World::new(9, 1);
    for _ in 0..4 {
        world.train(0);
    }
    for (from, to, told) in [
        ("promoted", 1, "trial 1 was promoted from rung 0"),
        ("rung", 7, "trial 7 reached rung 0"),
    ] {
        let records = world.stored.values().cloned().map(|mut record| {
            if let Record::Search(search) = &mut record {
                let wrong = TrialId(to);
                match &mut search.entry {
                    SearchEntry::Promoted { trial, .. } if from == "promoted" => *trial = wrong,
                    SearchEntry::Rung { trial, .. } if from == "rung" => *trial = wrong,
                    _ => {}
                }
            }
            record
        });
        let mut machine = Machine::restore(Term(2), config(), 9_000, records).unwrap();
        machine.apply(9_000, Event::Tick).unwrap();
        let failed = machine.job(&"a-1".into()).unwrap();
        assert_eq!(failed.state, JobState::Failed);
        assert!(failed.error.contains(told), "{}", failed.error);
    }
}

#[test]
fn failures_and_missing_values_count_as_the_worst_of_the_rung() {
    let mut world = World::new(3, 1);
    let rank = rank_of(&world.running.remove(0));
    world.report(&rank, ended(Outcome::Nan, "not a number"));
    // Reaches its epoch, but never told a value of the objective.
    let rank = rank_of(&world.running.remove(0));
    world.report(&rank, ended(Outcome::Paused, ""));
    assert_eq!(trial(&world.bench, "a-1", 1).state, TrialState::Paused);
    assert_eq!(world.train(0), 2);
    assert_eq!(world.of(Decision::Promoted), [2]);
    let rungs = world.log().into_iter().filter_map(|entry| match entry {
        SearchEntry::Rung { trial, value, .. } => Some((trial.0, value)),
        _ => None,
    });
    assert_eq!(
        rungs.collect::<Vec<_>>(),
        [(1, None), (2, Some(value(2, 1)))]
    );
    while !world.running.is_empty() {
        world.train(0);
    }
    let done = job(&world.bench, "a-1");
    assert_eq!((done.state, done.trials.failed), (JobState::Completed, 1));
}

#[test]
fn a_result_stands_even_if_its_attempt_is_lost() {
    let mut world = World::new(3, 1);
    world.loses_its_worker(0.0);
    // It waits at its rung all the same, without a slot.
    assert_eq!(trial(&world.bench, "a-1", 0).state, TrialState::Paused);
    world.session = 2;
    world.apply(joined("v", 1, 2, vec![]));
    world.train(0);
    world.train(0);
    let promoted = &world.running[0];
    assert_eq!((promoted.at.trial.0, promoted.until_epoch), (0, Some(3)));
    assert_eq!(promoted.resume_from, None, "it had made no checkpoint");
    world.train(0);
    assert_eq!(job(&world.bench, "a-1").state, JobState::Completed);
    assert_eq!(trial(&world.bench, "a-1", 0).epoch, 3);
}

#[test]
fn a_network_that_was_lost_at_its_rung_trains_again_for_its_weights() {
    let asha = "scheduler: {name: asha, max_resource: 3, eta: 3}";
    let mut world = World::with(network_with("a", 1, asha), 1, "validation_loss");
    world.loses_its_worker(value(0, 1));
    assert_eq!(trial(&world.bench, "a-1", 0).state, TrialState::Pending);
    world.session = 2;
    world.apply(joined("v", 1, 2, vec![]));
    let again = &world.running[0];
    assert_eq!((again.at.trial.0, again.until_epoch), (0, Some(1)));
    assert_eq!(world.train(0), 0);
    assert_eq!(trial(&world.bench, "a-1", 0).state, TrialState::Paused);
    let counted = |world: &World| {
        let rungs = world.log().into_iter();
        rungs
            .filter(|entry| {
                matches!(
                    entry,
                    SearchEntry::Rung {
                        trial: TrialId(0),
                        ..
                    }
                )
            })
            .count()
    };
    assert_eq!(counted(&world), 1);
    let judged = |world: &World| world.running[0].kind == AttemptKind::Evaluate;
    while !judged(&world) {
        world.train(0);
    }
    assert_eq!(counted(&world), 2, "at both rungs, once");
    assert_eq!(job(&world.bench, "a-1").state, JobState::Evaluating);
}

#[test]
fn a_trial_that_a_person_holds_is_promoted_and_waits_for_the_person() {
    let hold = |pause: bool, request: &str| {
        let (request, job) = (request.into(), "a-1".into());
        let trial = Some(TrialId(0));
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
    };
    let mut world = World::new(3, 1);
    world.train(0);
    world.apply(hold(true, "p"));
    // Resumed before there is a promotion: its scheduler still makes it wait.
    world.apply(hold(false, "q"));
    assert_eq!(trial(&world.bench, "a-1", 0).state, TrialState::Paused);
    world.apply(hold(true, "p2"));
    world.train(0);
    world.train(0);
    assert_eq!(world.of(Decision::Promoted), [0]);
    assert!(world.running.is_empty());
    assert_eq!(trial(&world.bench, "a-1", 0).state, TrialState::Paused);
    assert_eq!(job(&world.bench, "a-1").state, JobState::Running);
    world.apply(hold(false, "q2"));
    world.train(0);
    assert_eq!(job(&world.bench, "a-1").state, JobState::Completed);
}
