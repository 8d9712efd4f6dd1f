//! Nobody starves: in random worlds of attempts that last for a while or for ever and leave only when
//! they are asked, every gang that fits is placed within the bound that `docs/scheduling.md` states.

use std::collections::BTreeMap;

use trainyard_common::ids::JobId;
use trainyard_common::rng::Key;

use super::*;

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

struct World {
    key: Key,
    draws: u64,
    bench: Bench,
    runs: BTreeMap<RankRef, Run>,
    /// Since when each job has been pushing, and how many waited before it then.
    pushing: BTreeMap<JobId, (u64, u64)>,
    longest_ms: u64,
    asked: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let machine = MachineConfig {
            gang_wait_ms: 10_000,
            reserve_ms: 20_000,
            vacate_ms: 15_000,
            ..config()
        };
        let mut bench = Bench::new();
        bench.machine = Machine::new(Term(1), machine);
        let mut world = Self {
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
            let event = Event::WorkerJoined {
                info,
                session: SessionId(number),
                running: Vec::new(),
                term: Term(1),
            };
            world.tell(event);
        }
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        self.key.below(self.draws, below)
    }

    fn tell(&mut self, event: Event) {
        let step = self.bench.apply(event);
        for effect in step.effects {
            let Effect::Send {
                session, message, ..
            } = effect
            else {
                continue;
            };
            match message {
                ToWorker::Assign(assignment) => {
                    let rank = RankRef {
                        at: assignment.at.clone(),
                        rank: assignment.rank,
                    };
                    let endless = self.attempt_draw(&rank, 0, 3) == 0;
                    let lasts = 1_000 + self.attempt_draw(&rank, 1, 60_000);
                    let run = Run {
                        done_ms: (!endless).then_some(self.bench.now + lasts),
                        leaves_ms: None,
                        session: session.0,
                    };
                    self.runs.insert(rank, run);
                }
                ToWorker::Stop { at, checkpoint } => self.stop(&at, checkpoint),
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
    fn stop(&mut self, at: &super::super::types::AttemptRef, checkpoint: bool) {
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
        if now % (8 * TURN_MS) == 0 {
            slots::check(&self.bench.machine);
        }
        self.check();
    }

    /// Nobody of the highest priority waits for longer than the bound.
    fn check(&mut self) {
        let now = self.bench.now;
        let machine = &self.bench.machine;
        let bounded: Vec<(JobId, u64)> = machine
            .waiting
            .iter()
            .filter(|(_, _, job)| machine.pushes(job) && machine.jobs[job].record.priority == 0)
            .map(|(since, _, job)| (job.clone(), *since))
            .collect();
        let others = machine.jobs.iter();
        let since: Vec<(JobId, u64)> = others
            .filter_map(|(job, found)| Some((job.clone(), found.record.waiting_since_ms?)))
            .collect();
        let before = std::mem::take(&mut self.pushing);
        for (job, began) in bounded {
            let ahead = since
                .iter()
                .filter(|(other, at)| *other != job && *at <= began);
            let ahead = ahead.count() as u64;
            let known = before.get(&job).filter(|(from, _)| *from >= began);
            let (from, ahead) = known.copied().unwrap_or((now.max(began), ahead));
            self.pushing.insert(job.clone(), (from, ahead));
            let late = END_MS + 3 * TURN_MS + super::super::reserve::TRY_AGAIN_MS;
            let bound = self.bench.machine.wait_bound_ms(ahead, late);
            let waited = now - from;
            self.longest_ms = self.longest_ms.max(waited);
            assert!(
                waited <= bound,
                "{job} has waited for {waited} ms, {ahead} before it: the bound is {bound}; {:?}",
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
