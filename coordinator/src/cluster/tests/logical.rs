//! Logical time: whatever real machines do, the same trials, results and promotions in the same order.

use std::collections::BTreeMap;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key as Draw;

use super::rules::job;
use super::*;
use crate::cluster::model::{JobState, Key, Record, SearchEntry};

const ASHA: &str = "logical_time: true\nlogical_workers: 3\n\
                    scheduler: {name: asha, max_resource: 9, eta: 3}";
const FIFO: &str = "logical_time: true\nlogical_workers: 3";
/// Epochs of a trial without rungs.
const EPOCHS: u64 = 3;

struct Run {
    assignment: Assignment,
    epoch: u64,
}

/// Workers that advance in any order, an epoch at a time.
struct World {
    bench: Bench,
    stored: BTreeMap<Key, Record>,
    running: Vec<Run>,
    session: u64,
    slots: usize,
    /// What an attempt tells at its end comes in one message.
    together: bool,
}

/// Few different values, so that ties are common.
fn value(trial: u32, epoch: u64) -> f64 {
    f64::from(trial * 5 % 7) + 1.0 / epoch as f64
}

impl World {
    fn new(more: &str, slots: usize) -> Self {
        let mut world = Self {
            bench: Bench::new(),
            stored: BTreeMap::new(),
            running: Vec::new(),
            session: 1,
            slots,
            together: false,
        };
        world.apply(submit("r", program("a", 14, more)));
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
        let new = assigned(&step).into_iter().map(|assignment| Run {
            epoch: assignment.resume_from.as_ref().map_or(0, |from| from.epoch),
            assignment: assignment.clone(),
        });
        self.running.extend(new);
    }

    fn report(&mut self, rank: &RankRef, bodies: Vec<ReportBody>) {
        let told = match self.together {
            true => vec![bodies],
            false => bodies.into_iter().map(|body| vec![body]).collect(),
        };
        for bodies in told {
            let step = self.bench.reports(self.session, rank, bodies);
            self.take(step);
        }
    }

    /// One epoch of a running attempt; trial 4 fails early, trial 6 tells no value, 3 and 10 end by themselves.
    fn advance(&mut self, which: usize) {
        let run = &mut self.running[which];
        let (rank, number) = (rank_of(&run.assignment), run.assignment.at.trial.0);
        run.epoch += 1;
        let (done, until) = (run.epoch, run.assignment.until_epoch);
        if number == 4 && done == until.unwrap_or(2).min(2) {
            self.running.remove(which);
            self.report(&rank, vec![ended(Outcome::Nan, "not a number")]);
            return;
        }
        let metric = if number == 6 { "other" } else { "loss" };
        let told = epoch(done, metric, value(number, done));
        if done < until.unwrap_or(EPOCHS) {
            self.report(&rank, vec![told]);
            return;
        }
        self.running.remove(which);
        let saved = ReportBody::Checkpoint(checkpoint(&rank, done, "loss", value(number, done)));
        let outcome = match until {
            // At any rung, and at the second.
            Some(_) if number == 3 || (number == 10 && done > 1) => Outcome::Completed,
            Some(_) => Outcome::Paused,
            None => Outcome::Completed,
        };
        self.report(&rank, vec![told, saved, ended(outcome, "")]);
    }

    /// The worker is lost with all that it ran, and another one comes.
    fn lose(&mut self) {
        self.running.clear();
        self.apply(Event::WorkerLost {
            session: SessionId(self.session),
        });
        let step = self.bench.later(config().lease_ms);
        self.take(step);
        // As long as any pause before the next try.
        let step = self.bench.later(60_000);
        self.take(step);
        self.session += 1;
        let name = format!("w{}", self.session);
        self.apply(joined(&name, self.slots, self.session, vec![]));
    }

    fn restart(&mut self) {
        let records = self.stored.values().cloned();
        let machine = Machine::restore(Term(1), config(), self.bench.now, records).unwrap();
        assert_eq!(machine.jobs(), self.bench.machine.jobs());
        self.bench.machine = machine;
        self.session += 1;
        let running = self.running.iter().map(|run| rank_of(&run.assignment));
        let running = running.collect();
        self.apply(joined("w", self.slots, self.session, running));
    }

    fn log(&self) -> Vec<SearchEntry> {
        let log = self.stored.values().filter_map(|record| match record {
            Record::Search(record) => Some(record.entry.clone()),
            _ => None,
        });
        log.collect()
    }
}

#[test]
fn any_order_of_real_events_gives_the_same_log() {
    for more in [ASHA, FIFO] {
        let mut expected = None;
        for seed in 0..60 {
            let draw = Draw::new(seed);
            // Fewer real slots than logical workers, as many, and more.
            let mut world = World::new(more, 1 + (seed % 5) as usize);
            world.together = seed % 3 == 0;
            let mut turn = 0;
            while job(&world.bench, "a-1").state != JobState::Completed {
                turn += 1;
                assert!(turn < 2_000, "seed {seed}: no end");
                let running = world.running.len() as u64;
                if running == 0 {
                    let step = world.bench.later(1);
                    world.take(step);
                    continue;
                }
                let which = draw.with(turn).below(0, running) as usize;
                world.advance(which);
                match draw.with(turn).below(1, 30) {
                    0 if seed % 4 == 1 && turn < 60 => world.lose(),
                    1 | 2 if seed % 4 == 2 => world.restart(),
                    _ => {}
                }
            }
            let log = world.log();
            let results = log.iter().filter(|entry| match entry {
                SearchEntry::Promoted { .. } => true,
                SearchEntry::Observed(_) => more == FIFO,
                _ => false,
            });
            // Of the best four of the first rung one has ended by itself.
            assert!(results.count() > 2, "too little was decided");
            let best = job(&world.bench, "a-1").best_trial;
            match &expected {
                None => expected = Some((log, best)),
                Some(expected) => {
                    assert_eq!((&log, &best), (&expected.0, &expected.1), "seed {seed}")
                }
            }
        }
    }
}

#[test]
fn a_result_waits_for_the_trials_that_may_still_be_earlier() {
    let mut world = World::new(ASHA, 3);
    let rungs = |world: &World| {
        let log = world.log().into_iter().filter_map(|entry| match entry {
            SearchEntry::Rung { trial, .. } => Some(trial),
            _ => None,
        });
        log.collect::<Vec<TrialId>>()
    };
    // Three logical workers and three trials, however many slots: trial 2 is the first, and waits.
    world.advance(2);
    assert!(rungs(&world).is_empty());
    let shown = world
        .bench
        .machine
        .trial(&"a-1".into(), TrialId(2))
        .unwrap();
    assert_eq!(
        shown.best_value,
        Some(value(2, 1)),
        "but it is shown at once"
    );
    assert!(
        world
            .running
            .iter()
            .all(|run| run.assignment.at.trial.0 < 2)
    );
    world.advance(1);
    assert!(rungs(&world).is_empty());
    world.advance(0);
    assert_eq!(rungs(&world), [TrialId(0), TrialId(1), TrialId(2)]);
}

#[test]
fn who_is_lost_at_its_rung_before_it_has_ended_there_tells_it_again() {
    let spec = "logical_time: true\nlogical_workers: 2\n\
                scheduler: {name: asha, max_resource: 2, eta: 2}";
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 2, spec)));
    let both = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    for rank in &both {
        bench.report(1, rank, epoch(1, "loss", 0.5));
    }
    let session = SessionId(1);
    bench.apply(Event::WorkerLost { session });
    bench.later(config().lease_ms);
    let step = bench.apply(joined("v", 2, 2, vec![]));
    let mut running: Vec<Assignment> = assigned(&step).into_iter().cloned().collect();
    assert_eq!(running.len(), 2, "both are begun again");
    while let Some(next) = running.pop() {
        let rank = rank_of(&next);
        for done in 1..=next.until_epoch.unwrap() {
            bench.report(2, &rank, epoch(done, "loss", 0.5));
        }
        // The first one ends there by itself.
        let outcome = match rank.at.trial.0 {
            0 => Outcome::Completed,
            _ => Outcome::Paused,
        };
        let step = bench.report(2, &rank, ended(outcome, ""));
        running.extend(assigned(&step).into_iter().cloned());
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Completed);
}
