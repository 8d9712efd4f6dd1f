//! A seeded world around the machine: workers that join, vanish, leave and come back, reports that
//! are late, told twice or never, a coordinator that dies at any point. The invariants are checked
//! after every event, and the end is compared with the same world left in peace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trainyard_common::ids::JobId;
use trainyard_common::rng::Key;

use super::*;
use crate::cluster::api::Reply;
use crate::cluster::model::{AttemptKind, AttemptRef, JobState, Record, TrialSlot, TrialState};

const SEEDS: u64 = 100;
/// Disturbed turns before the world is left in peace.
const CHAOS_TURNS: u64 = 400;
const PEACE_TURNS: u64 = 20_000;
const EPOCHS: u64 = 3;

struct Run {
    assignment: Assignment,
    step: u64,
    /// Whether to make a checkpoint first.
    stop: Option<bool>,
}

struct Process {
    name: String,
    slots: usize,
    alive: bool,
    leaving: bool,
    session: Option<SessionId>,
    sequence: u64,
    /// Reports that are not acknowledged.
    buffer: Vec<Report>,
    running: BTreeMap<RankRef, Run>,
    to_coordinator: VecDeque<Event>,
    to_worker: VecDeque<ToWorker>,
}

impl Process {
    fn tell(&mut self, rank: &RankRef, body: ReportBody) {
        self.sequence += 1;
        let report = Report {
            sequence: self.sequence,
            rank: rank.clone(),
            time_ms: 0,
            body,
        };
        self.buffer.push(report.clone());
        if let Some(session) = self.session {
            self.to_coordinator.push_back(Event::Reports {
                session,
                reports: vec![report],
            });
        }
    }

    /// Attempts that run here and those whose end is not acknowledged.
    fn running(&self) -> Vec<RankRef> {
        let ended = self.buffer.iter();
        let ended = ended.filter(|report| matches!(report.body, ReportBody::Ended { .. }));
        let ended = ended.map(|report| report.rank.clone());
        self.running.keys().cloned().chain(ended).collect()
    }
}

struct World {
    key: Key,
    draws: u64,
    chaos: bool,
    now: u64,
    term: u64,
    machine: Machine,
    stored: BTreeMap<String, Vec<u8>>,
    points: BTreeSet<(JobId, TrialId, u64, bool)>,
    processes: Vec<Process>,
    sessions: u64,
    probes: Vec<Event>,
    /// Requests and their answers.
    requests: Vec<(Event, Option<Reply>)>,
    /// Attempts whose rank 0 has finished its work.
    finished: BTreeSet<AttemptRef>,
    /// Attempts in which a rank has gone.
    torn: BTreeSet<AttemptRef>,
    errors: BTreeMap<(JobId, TrialId), u32>,
    restarts: u32,
}

/// A job, its state, its winner, the winner's value, its message.
type JobResult = (JobId, JobState, Option<TrialId>, Option<f64>, String);

/// A trial, its state, its parameters, its best value, the step of that.
type TrialResult = (JobId, TrialId, TrialState, String, Option<f64>, u64);

/// What must not depend on disturbances.
#[derive(Debug, PartialEq)]
struct Result {
    jobs: Vec<JobResult>,
    trials: Vec<TrialResult>,
    points: BTreeSet<(JobId, TrialId, u64, bool)>,
}

/// The metric that a rank's program reports.
fn metric(rank: &RankRef) -> &'static str {
    match rank.at.job.as_str().starts_with("net") {
        true => "validation_loss",
        false => "loss",
    }
}

/// Its value after a step: falls towards the trial's parameter.
fn value(run: &Run) -> f64 {
    run.assignment.spec.params["x"].as_f64().unwrap() + 1.0 / (1.0 + run.step as f64)
}

fn saved(rank: &RankRef, run: &Run) -> ReportBody {
    ReportBody::Checkpoint(checkpoint(rank, run.step, metric(rank), value(run)))
}

impl World {
    fn new(seed: u64, chaos: bool) -> Self {
        let searcher = |trials| format!("searcher: {{name: random, max_trials: {trials}}}");
        let limited = "searcher: {name: random, max_trials: 5, max_concurrent_trials: 2}";
        let gang = format!(
            "seed: {seed}\nresources: {{slots_per_trial: 2}}\npriority: 1\n{}",
            searcher(4)
        );
        let documents = [
            program("plain", 0, &format!("seed: {seed}\n{}", searcher(6))),
            program("gang", 0, &gang),
            network("net", seed),
            program("few", 0, &format!("seed: {seed}\n{limited}")),
        ];
        let requests = documents.into_iter().enumerate();
        let requests = requests.map(|(n, document)| (submit(&format!("r{n}"), document), None));
        let mut world = Self {
            key: Key::new(seed).named(if chaos { "chaos" } else { "peace" }),
            draws: 0,
            chaos,
            now: 1_000,
            term: 1,
            machine: Machine::new(Term(1), config()),
            stored: BTreeMap::new(),
            points: BTreeSet::new(),
            processes: Vec::new(),
            sessions: 0,
            probes: Vec::new(),
            requests: requests.collect(),
            finished: BTreeSet::new(),
            torn: BTreeSet::new(),
            errors: BTreeMap::new(),
            restarts: 0,
        };
        for slots in [2, 1, 2] {
            world.spawn(slots);
        }
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        self.key.below(self.draws, below)
    }

    fn unlucky(&mut self, one_in: u64) -> bool {
        self.chaos && self.draw(one_in) == 0
    }

    fn spawn(&mut self, slots: usize) {
        self.processes.push(Process {
            name: format!("w{}", self.processes.len()),
            slots,
            alive: true,
            leaving: false,
            session: None,
            sequence: 0,
            buffer: Vec::new(),
            running: BTreeMap::new(),
            to_coordinator: VecDeque::new(),
            to_worker: VecDeque::new(),
        });
    }

    fn records(&self) -> Vec<Record> {
        let stored = self.stored.iter();
        stored
            .map(|(key, bytes)| Record::decode(key, bytes).unwrap())
            .collect()
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.term += 1;
        self.machine =
            Machine::restore(Term(self.term), config(), self.now, self.records()).unwrap();
        self.probes.clear();
        for process in &mut self.processes {
            process.session = None;
            process.to_worker.clear();
            process.to_coordinator.clear();
        }
        self.check();
    }

    fn feed(&mut self, event: Event) -> Option<Reply> {
        let step = self.machine.apply(self.now, event).unwrap();
        if self.unlucky(250) {
            self.restart(); // Before anything was stored.
            return None;
        }
        let reply = step.reply.clone();
        let effects = self.persist(step);
        if self.unlucky(250) {
            self.restart(); // Before anything was told.
            return None;
        }
        for effect in effects {
            self.perform(effect);
        }
        self.check();
        reply
    }

    fn persist(&mut self, step: Step) -> Vec<Effect> {
        let mut keys = BTreeSet::new();
        for record in &step.records {
            let key = record.key().0;
            assert!(keys.insert(key.clone()), "{key} twice in one step");
            if let (Record::Trial(new), Some(old)) = (record, self.stored.get(&key)) {
                let Record::Trial(old) = Record::decode(&key, old).unwrap() else {
                    panic!("{key}")
                };
                let same = !old.state.ended() || old.state == new.state;
                assert!(same, "{key}: {:?} became {:?}", old.state, new.state);
                assert_eq!(old.params, new.params);
            }
            self.stored.insert(key, record.encode().unwrap());
        }
        for key in &step.removed {
            self.stored.remove(&key.0);
        }
        for appended in &step.points {
            let point = &appended.point;
            let key = (
                appended.job.clone(),
                appended.trial,
                point.step,
                point.end_of_epoch,
            );
            assert!(self.points.insert(key), "counted twice: {appended:?}");
        }
        step.effects
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                session, message, ..
            } => {
                let mut processes = self.processes.iter_mut();
                if let Some(to) = processes.find(|p| p.session == Some(session)) {
                    to.to_worker.push_back(message);
                }
            }
            Effect::Close { session, .. } => {
                let mut processes = self.processes.iter_mut();
                if let Some(closed) = processes.find(|p| p.session == Some(session)) {
                    closed.session = None;
                    closed.to_worker.clear();
                    closed.to_coordinator.clear();
                }
            }
            Effect::Probe { worker, path, .. } => {
                let error = self.unlucky(4).then(|| "unreachable".to_owned());
                self.probes.push(Event::StoreProbed {
                    worker,
                    path,
                    error,
                });
            }
            Effect::Changed { .. } | Effect::Knock { .. } => {}
            Effect::Archive { .. } | Effect::Remove { .. } => panic!("nobody asked for it"),
            Effect::Search { .. } => panic!("every search here is quick"),
        }
    }

    /// The invariants, looked up in the machine's own state.
    fn check(&self) {
        let machine = &self.machine;
        slots::check(machine);
        let mut places = BTreeSet::new();
        for job in machine.jobs.values() {
            let id = &job.record.job;
            let mut counts = crate::cluster::model::TrialCounts::default();
            for (number, slot) in (0u32..).zip(&job.trials) {
                let trial = TrialId(number);
                match slot.state() {
                    TrialState::Pending => counts.pending += 1,
                    TrialState::Running => counts.running += 1,
                    TrialState::Paused => counts.paused += 1,
                    TrialState::Completed => counts.completed += 1,
                    TrialState::Failed => counts.failed += 1,
                    TrialState::Cancelled => counts.cancelled += 1,
                }
                let state = slot.state();
                assert_eq!(job.pending.contains(&trial), state == TrialState::Pending);
                assert_eq!(job.running.contains(&trial), state == TrialState::Running);
                let TrialSlot::Live(trial) = slot else {
                    continue;
                };
                let live: Vec<_> = trial
                    .attempts
                    .iter()
                    .filter(|a| a.outcome.is_none())
                    .collect();
                let training = live.iter().filter(|a| a.kind == AttemptKind::Train).count();
                assert!(live.len() <= 1, "{id}/{number}: two living attempts");
                assert_eq!(training == 1, state == TrialState::Running, "{id}/{number}");
                for attempt in live {
                    for rank in attempt.ranks.iter().filter(|rank| rank.ended.is_none()) {
                        let at = attempt.at();
                        let rank_ref = RankRef {
                            at,
                            rank: rank.place.rank,
                        };
                        for slot in &rank.place.slots {
                            let place = (rank.place.worker.clone(), *slot);
                            assert!(places.insert(place.clone()), "{place:?} used twice");
                            let held = &machine.workers[&place.0].slots[*slot as usize];
                            assert_eq!(held.as_ref(), Some(&rank_ref), "{place:?}");
                        }
                    }
                }
            }
            assert_eq!(job.counts, counts, "{id}");
            let over = job.record.state.ended();
            assert_eq!(over, job.mind.rests(), "{id}");
        }
    }

    /// A machine that is restored now knows the same.
    fn check_restored(&self) {
        let restored =
            Machine::restore(Term(self.term), config(), self.now, self.records()).unwrap();
        assert_eq!(restored.jobs(), self.machine.jobs());
        for job in self.machine.jobs() {
            assert_eq!(restored.trials(&job.job), self.machine.trials(&job.job));
        }
        assert_eq!(restored.counters, self.machine.counters);
    }

    fn turn(&mut self) {
        self.now += self.draw(40);
        if self.unlucky(150) {
            self.now += self.draw(12_000);
        }
        if self
            .machine
            .next_deadline()
            .is_some_and(|at| at <= self.now)
        {
            self.feed(Event::Tick);
        }
        let count = self.requests.len() as u64;
        let request = self.draw(count) as usize;
        if self.requests[request].1.is_none() || self.unlucky(30) {
            let event = self.requests[request].0.clone();
            if let Some(reply) = self.feed(event) {
                let known = self.requests[request].1.replace(reply.clone());
                assert!(known.is_none_or(|known| known == reply));
            }
        }
        if !self.probes.is_empty() {
            let count = self.probes.len() as u64;
            let which = self.draw(count) as usize;
            let probe = self.probes.swap_remove(which);
            self.feed(probe);
        }
        let count = self.processes.len() as u64;
        let which = self.draw(count) as usize;
        self.process_turn(which);
        if self.unlucky(40) {
            self.check_restored();
        }
    }

    fn process_turn(&mut self, which: usize) {
        self.disturb(which);
        if !self.processes[which].alive {
            return;
        }
        let Some(session) = self.processes[which].session else {
            if !self.processes[which].leaving || !self.processes[which].buffer.is_empty() {
                self.connect(which);
            } else {
                self.processes[which].alive = false;
            }
            return;
        };
        self.feed(Event::Heartbeat { session });
        for _ in 0..=self.draw(3) {
            let Some(message) = self.processes[which].to_worker.pop_front() else {
                break;
            };
            self.receive(which, message);
        }
        let ranks: Vec<RankRef> = self.processes[which].running.keys().cloned().collect();
        for rank in ranks {
            if self.draw(2) == 0 {
                self.work(which, &rank);
            }
        }
        for _ in 0..=self.draw(4) {
            let Some(event) = self.processes[which].to_coordinator.pop_front() else {
                break;
            };
            if self.unlucky(10) {
                self.feed(event.clone());
            }
            self.feed(event);
        }
    }

    fn disturb(&mut self, which: usize) {
        if self.unlucky(60) {
            self.disconnect(which);
        }
        if self.unlucky(90) {
            self.disconnect(which);
            let process = &mut self.processes[which];
            process.alive = false;
            let gone: Vec<AttemptRef> = process.running.keys().map(|r| r.at.clone()).collect();
            process.running.clear();
            self.torn.extend(gone);
        }
        if self.unlucky(120) && !self.processes[which].leaving {
            let process = &mut self.processes[which];
            process.leaving = true;
            process
                .running
                .values_mut()
                .for_each(|run| run.stop = Some(true));
            if let Some(session) = process.session {
                process.to_coordinator.push_back(Event::Leaving { session });
            }
        }
        let slots = self
            .processes
            .iter()
            .filter(|p| p.alive && !p.leaving)
            .map(|p| p.slots);
        if slots.sum::<usize>() < 4 {
            self.spawn(2);
        }
    }

    fn disconnect(&mut self, which: usize) {
        let process = &mut self.processes[which];
        process.to_worker.clear();
        process.to_coordinator.clear();
        if let Some(session) = process.session.take()
            && self.draw(3) > 0
        {
            self.feed(Event::WorkerLost { session });
        }
    }

    fn connect(&mut self, which: usize) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        // Some agents tell only what really runs; their replayed reports must count all the same.
        let whole = self.draw(4) > 0;
        let process = &mut self.processes[which];
        process.session = Some(session);
        let running = if whole {
            process.running()
        } else {
            process.running.keys().cloned().collect()
        };
        let event = Event::WorkerJoined {
            info: worker(&process.name, process.slots),
            secret: Some(SECRET),
            peer: None,
            session,
            running,
            term: Term(self.term),
        };
        self.feed(event);
        let process = &mut self.processes[which];
        if process.session != Some(session) {
            return;
        }
        if process.leaving {
            process.to_coordinator.push_back(Event::Leaving { session });
        }
        if !process.buffer.is_empty() {
            let reports = process.buffer.clone();
            process
                .to_coordinator
                .push_back(Event::Reports { session, reports });
        }
    }

    fn receive(&mut self, which: usize, message: ToWorker) {
        let process = &mut self.processes[which];
        match message {
            ToWorker::Registered { abandon, .. } => {
                for rank in abandon {
                    if process.running.remove(&rank).is_some() {
                        self.torn.insert(rank.at);
                    }
                }
            }
            ToWorker::Acknowledged { sequence } => {
                process.buffer.retain(|report| report.sequence > sequence);
            }
            ToWorker::LinesStored { .. } => {}
            ToWorker::Assign(assignment) => {
                let rank = rank_of(&assignment);
                let from = assignment.resume_from.as_ref().map_or(0, |from| from.step);
                let run = Run {
                    step: from,
                    stop: process.leaving.then_some(true),
                    assignment: *assignment,
                };
                assert!(
                    process.running.insert(rank.clone(), run).is_none(),
                    "{rank:?}"
                );
                let body = ReportBody::Started {
                    from_step: from,
                    steps_total: EPOCHS,
                    epochs_total: EPOCHS,
                    parameters: 1,
                };
                process.tell(&rank, body);
            }
            ToWorker::Stop { at, checkpoint, .. } => {
                let stopped = process.running.iter_mut().filter(|(rank, _)| rank.at == at);
                for (_, run) in stopped {
                    run.stop = run.stop.or(Some(checkpoint));
                }
            }
        }
    }

    /// One rank's turn.
    fn work(&mut self, which: usize, rank: &RankRef) {
        let torn = self.torn.contains(&rank.at);
        let finished = self.finished.contains(&rank.at);
        let Some(run) = self.processes[which].running.get(rank) else {
            return;
        };
        let mut said = Vec::new();
        let outcome = match run.stop {
            _ if rank.rank != 0 && finished => Some(Outcome::Completed),
            Some(true) => {
                if rank.rank == 0 && run.step > 0 && run.assignment.kind == AttemptKind::Train {
                    said.push(saved(rank, run));
                }
                Some(Outcome::Preempted)
            }
            Some(false) => Some(Outcome::Cancelled),
            None if torn => Some(Outcome::NodeLost),
            None if rank.rank != 0 => None,
            None => self.step(which, rank, &mut said),
        };
        if let Some(outcome) = outcome {
            said.push(ended(outcome, "sim"));
            self.processes[which].running.remove(rank);
            match outcome {
                Outcome::Completed => self.finished.insert(rank.at.clone()),
                _ => self.torn.insert(rank.at.clone()),
            };
        }
        for body in said {
            self.processes[which].tell(rank, body);
        }
    }

    /// The first rank's next epoch: what it says of it, and how the attempt ends if it does.
    fn step(
        &mut self,
        which: usize,
        rank: &RankRef,
        said: &mut Vec<ReportBody>,
    ) -> Option<Outcome> {
        let run = self.processes[which].running.get_mut(rank)?;
        if run.assignment.kind == AttemptKind::Evaluate || run.step >= EPOCHS {
            return Some(Outcome::Completed);
        }
        run.step += 1;
        let trial = (rank.at.job.clone(), rank.at.trial);
        let name = rank.at.job.as_str().split('-').next().unwrap();
        let fate = Key::new(9)
            .named(name)
            .with(u64::from(trial.1.0))
            .below(0, 8);
        let errors = self.errors.entry(trial).or_default();
        if fate == 0 && run.step == 2 {
            return Some(Outcome::Nan);
        }
        if fate == 1 && run.step == 2 && *errors < 2 {
            *errors += 1;
            return Some(Outcome::Error);
        }
        said.push(epoch(run.step, metric(rank), value(run)));
        said.push(saved(rank, run));
        (run.step >= EPOCHS).then_some(Outcome::Completed)
    }

    fn done(&self) -> bool {
        let jobs = self.machine.jobs();
        let workers = self.machine.workers();
        jobs.len() == self.requests.len()
            && jobs.iter().all(|job| job.state.ended())
            && workers.iter().all(|worker| worker.slots_used == 0)
            && self.requests.iter().all(|request| request.1.is_some())
    }

    fn run(mut self) -> (Result, u32) {
        if self.chaos {
            for _ in 0..CHAOS_TURNS {
                self.turn();
            }
            self.chaos = false;
        }
        for _ in 0..PEACE_TURNS {
            if self.done() {
                break;
            }
            self.turn();
        }
        let jobs = self.machine.jobs();
        assert!(
            self.done(),
            "no end: {jobs:?}\n{:?}",
            self.machine.workers()
        );
        self.check_restored();
        let restarts = self.restarts;
        (self.result(), restarts)
    }

    fn result(self) -> Result {
        let mut trials = Vec::new();
        let mut jobs = Vec::new();
        for job in self.machine.jobs() {
            for trial in self.machine.trials(&job.job).unwrap() {
                trials.push((
                    JobId(job.name.clone()),
                    trial.trial,
                    trial.state,
                    serde_json::to_string(&trial.params).unwrap(),
                    trial.best_value,
                    trial.best_step,
                ));
            }
            let metrics = format!("{:?}", job.test_metrics);
            jobs.push((
                JobId(job.name),
                job.state,
                job.best_trial,
                job.best_value,
                metrics,
            ));
        }
        // Requests arrive in any order: jobs are compared by name.
        let name = |job: &JobId| JobId(job.as_str().split('-').next().unwrap().to_owned());
        let points = self.points.iter();
        let points = points.map(|(job, trial, step, end)| (name(job), *trial, *step, *end));
        trials.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        jobs.sort_by(|a, b| a.0.cmp(&b.0));
        Result {
            jobs,
            trials,
            points: points.collect(),
        }
    }
}

#[test]
fn disturbances_change_nothing_that_counts() {
    let seeds = std::env::var("TRAINYARD_SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut restarts = 0;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let (peace, none) = World::new(seed, false).run();
            let (disturbed, restarts) = World::new(seed, true).run();
            assert_eq!(none, 0);
            assert_eq!(disturbed, peace);
            let completed = peace.trials.iter().filter(|t| t.2 == TrialState::Completed);
            assert!(completed.count() > 5, "too little was simulated");
            restarts
        });
        match result {
            Ok(count) => restarts += count,
            Err(panic) => {
                eprintln!("failed with seed {seed}: TRAINYARD_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{restarts} restarts of the coordinator were survived");
}
