//! Nobody starves: in random worlds of attempts that last for a while or for ever and leave only when
//! they are asked, under coordinators that are replaced now and then, every gang that fits is placed within
//! the bound that `docs/scheduling.md` states.

use std::collections::BTreeMap;

use trainyard_common::ids::JobId;
use trainyard_common::rng::Key;

use super::*;
use crate::cluster::model::{Key as RecordKey, Record};

const SEEDS: u64 = 20;
/// One turn of the world, and so how late anything is heard of.
const TURN_MS: u64 = 500;
/// How long a rank that was told to stop, and not to make a checkpoint, takes to end.
const END_MS: u64 = 1_000;
const LASTS_MS: u64 = 900_000;

/// What a rank does.
struct Run {
    /// When its work is done; `None`: never.
    done_ms: Option<u64>,
    /// When it leaves, once it was asked.
    leaves_ms: Option<u64>,
    session: u64,
}

/// How long a job has been pushing.
#[derive(Clone, Copy)]
struct Pushing {
    since_ms: u64,
    /// How many waited before it then, or had slots kept for them already.
    ahead: u64,
    /// How many coordinators there had been before.
    term: u64,
}

struct World {
    seed: u64,
    config: MachineConfig,
    workers: Vec<WorkerInfo>,
    stored: BTreeMap<RecordKey, Record>,
    key: Key,
    draws: u64,
    bench: Bench,
    runs: BTreeMap<RankRef, Run>,
    pushing: BTreeMap<JobId, Pushing>,
    longest_ms: u64,
    asked: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = MachineConfig {
            gang_wait_ms: 10_000,
            reserve_ms: 20_000,
            vacate_ms: 15_000,
            ..config()
        };
        let mut bench = Bench::new();
        bench.machine = Machine::new(Term(1), config.clone());
        let mut world = Self {
            seed,
            config,
            workers: Vec::new(),
            stored: BTreeMap::new(),
            key: Key::new(seed).named("bound"),
            draws: 0,
            bench,
            runs: BTreeMap::new(),
            pushing: BTreeMap::new(),
            longest_ms: 0,
            asked: 0,
        };
        for number in 0..2 + world.draw(3) {
            let mut info = worker(&format!("w{number}"), 1 + world.draw(3) as usize);
            info.cpu_kind = ["x", "y"][world.draw(3).min(1) as usize].to_owned();
            world.workers.push(info);
        }
        world.all_join();
        world
    }

    fn all_join(&mut self) {
        for (number, info) in (0u64..).zip(self.workers.clone()) {
            let runs = self.runs.iter().filter(|(_, run)| run.session == number);
            let running = runs.map(|(rank, _)| rank.clone()).collect();
            self.tell(Event::WorkerJoined {
                info,
                secret: None,
                peer: None,
                session: SessionId(number),
                running,
                term: Term(1),
            });
        }
    }

    /// Another coordinator takes over.
    fn replace(&mut self) {
        let term = Term(self.bench.machine.term().0 + 1);
        let records = self.stored.values().cloned();
        let restored = Machine::restore(term, self.config.clone(), self.bench.now, records);
        self.bench.machine = restored.unwrap();
        self.all_join();
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        self.key.below(self.draws, below)
    }

    fn tell(&mut self, event: Event) {
        let step = self.bench.apply(event);
        for record in step.records {
            self.stored.insert(record.key(), record);
        }
        for effect in step.effects {
            let Effect::Send {
                session, message, ..
            } = effect
            else {
                continue;
            };
            match message {
                ToWorker::Assign(assignment) => {
                    let rank = rank_of(&assignment);
                    let endless = self.attempt_draw(&rank, 0, 3) == 0;
                    let lasts = 1_000 + self.attempt_draw(&rank, 1, 60_000);
                    let run = Run {
                        done_ms: (!endless).then_some(self.bench.now + lasts),
                        leaves_ms: None,
                        session: session.0,
                    };
                    self.runs.insert(rank, run);
                }
                ToWorker::Stop { at, checkpoint, .. } => self.stop(&at, checkpoint),
                _ => {}
            }
        }
    }

    /// The same for all ranks of an attempt. Who is endless is so for good.
    fn attempt_draw(&self, rank: &RankRef, what: u64, below: u64) -> u64 {
        let key = self.key.named(rank.at.job.as_str()).with(what);
        let key = key.with(u64::from(rank.at.trial.0));
        match what {
            0 => key.below(0, below),
            _ => key.below(u64::from(rank.at.attempt.0), below),
        }
    }

    /// One in four makes no checkpoint until it is stopped without.
    fn stop(&mut self, at: &crate::cluster::model::AttemptRef, checkpoint: bool) {
        let now = self.bench.now;
        self.asked += 1;
        let wait = match (checkpoint, self.draw(4)) {
            (false, _) => Some(END_MS),
            (true, 0) => None,
            (true, _) => Some(self.draw(14_000)),
        };
        let ranks = self.runs.iter_mut().filter(|(rank, _)| rank.at == *at);
        for (_, run) in ranks {
            let leaves = wait.map(|wait| now + wait);
            run.leaves_ms = run.leaves_ms.into_iter().chain(leaves).min();
        }
    }

    fn turn(&mut self) {
        self.bench.now += TURN_MS;
        let now = self.bench.now;
        for number in 0..5 {
            let session = SessionId(number);
            self.tell(Event::Heartbeat { session });
        }
        self.tell(Event::Tick);
        let due = |run: &Run| {
            let done = run.done_ms.is_some_and(|at| at <= now);
            let left = run.leaves_ms.is_some_and(|at| at <= now);
            (done || left).then_some(done && !left)
        };
        let over = self.runs.iter();
        let over: Vec<(RankRef, u64, bool)> = over
            .filter_map(|(rank, run)| Some((rank.clone(), run.session, due(run)?)))
            .collect();
        for (rank, session, done) in over {
            self.runs.remove(&rank);
            let outcome = match done {
                true => Outcome::Completed,
                false => Outcome::Preempted,
            };
            self.bench.sequence += 1;
            let report = Report {
                sequence: self.bench.sequence,
                rank,
                time_ms: 0,
                body: ended(outcome, ""),
            };
            self.tell(Event::Reports {
                session: SessionId(session),
                reports: vec![report],
            });
        }
        if now.is_multiple_of(8 * TURN_MS) {
            slots::check(&self.bench.machine);
        }
        self.check();
    }

    /// Nobody of the highest priority waits for longer than the bound.
    fn check(&mut self) {
        let now = self.bench.now;
        let machine = &self.bench.machine;
        let bounded: Vec<(JobId, u64)> = machine
            .waits
            .iter()
            .filter(|(_, job)| machine.pushes(job) && machine.jobs[job].record.priority == 0)
            .map(|(since, job)| (job.clone(), since))
            .collect();
        let others = machine.jobs.values();
        let since: Vec<(JobId, u64)> = others
            .filter_map(|found| Some((found.record.job.clone(), found.record.waiting_since_ms?)))
            .collect();
        let before = std::mem::take(&mut self.pushing);
        for (job, began) in bounded {
            let kept = |other: &JobId| self.bench.machine.slots.kept(other).is_some();
            let ahead = since.iter().filter(|(other, _)| *other != job);
            let ahead = ahead.filter(|(other, at)| *at <= began || kept(other));
            let ahead = ahead.count() as u64;
            let term = self.bench.machine.term().0;
            let known = before.get(&job).filter(|known| known.since_ms >= began);
            let pushing = known.copied().unwrap_or(Pushing {
                since_ms: now,
                ahead,
                term,
            });
            self.pushing.insert(job.clone(), pushing);
            let late = END_MS + 3 * TURN_MS + crate::cluster::placing::reserve::PACE_MS;
            // Each coordinator waits for workers to come back, and keeps slots anew.
            let anew = self.config.lease_ms + self.config.reserve_ms + late;
            let bound = self.bench.machine.wait_bound_ms(pushing.ahead, late)
                + (term - pushing.term) * anew;
            let waited = now - pushing.since_ms;
            self.longest_ms = self.longest_ms.max(waited);
            assert!(
                waited <= bound,
                "seed {}: {job} has waited for {waited} ms, {} before it: the bound is {bound}; {:?}",
                self.seed,
                pushing.ahead,
                self.bench.machine.jobs()
            );
        }
    }

    fn submit(&mut self, number: u64) {
        let ranks = 1 + self.draw(4);
        let trials = 1 + self.draw(3) as u32;
        // Now and then something that matters less.
        let priority = match self.draw(4) {
            0 => -1,
            _ => 0,
        };
        let more = format!("resources: {{slots_per_trial: {ranks}}}\npriority: {priority}");
        let document = program(&format!("j{number}"), trials, &more);
        self.tell(submit(&format!("r{number}"), document));
    }
}

#[test]
fn no_gang_that_fits_waits_for_longer_than_the_bound() {
    let (mut longest, mut asked) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let jobs = 3 + world.draw(6);
        let mut number = 0;
        for turn in 0..LASTS_MS / TURN_MS {
            if number < jobs && turn % 40 == 0 {
                world.submit(number);
                number += 1;
            }
            world.turn();
            if seed % 2 == 0 && world.draw(400) == 0 {
                world.replace();
            }
        }
        longest = longest.max(world.longest_ms);
        asked += world.asked;
    }
    assert!(
        asked > SEEDS && longest > 40_000,
        "{asked} {longest}: too little was simulated"
    );
    eprintln!("{asked} attempts were asked to leave; the longest wait was {longest} ms");
}
