//! Worker processes: one session at a time with whoever leads, terms obeyed, reports kept until they
//! are acknowledged, leaving in order. The model of the worker's agent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use trainyard_common::ids::{Term, WorkerId};
use trainyard_coordinator::cluster::api::ToWorker;
use trainyard_coordinator::cluster::model::{Pulse, RankRef, SecretDigest, WorkerInfo};

use super::jobs::variant_of;
use super::lines::Lines;
use super::network::{Down, Link, LinkId, Up, Way};
use super::outbox::Outbox;
use super::rank::{Run, RunId, Stop};
use super::stats::Hit;
use super::strangers::TRIES;
use super::world::{Due, World, config};

/// How long the answer to a registration may take, as in the agent.
const REGISTER_TIMEOUT_MS: u64 = 20_000;

/// How long a connection may take to open.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// The longest wait before the next try to connect.
const MAX_BACKOFF_MS: u64 = 2_000;

/// How long a worker that leaves waits for its attempts and reports.
const DRAIN_TIMEOUT_MS: u64 = 30_000;

pub(super) struct Worker {
    pub(super) id: WorkerId,
    /// What it shows of itself; old workers have none.
    secret: Option<SecretDigest>,
    /// From where it speaks.
    pub(super) ip: IpAddr,
    /// Where it says that peers reach it.
    advertises: String,
    /// It is not who it says: it is another process under the id of one that was there before.
    pub(super) impostor: bool,
    tries: u32,
    /// What an impostor says that it runs.
    claims: Vec<RankRef>,
    pub(super) slots: usize,
    /// Whether it runs programs.
    pub(super) programs: bool,
    pub(super) alive: bool,
    /// The machine that it runs on is gone, too: nobody answers for it.
    pub(super) unplugged: bool,
    pub(super) leaving: bool,
    /// The process does not run at all until then.
    pub(super) stopped_until: u64,
    /// Its attempts make no progress until then.
    pub(super) hung_until: u64,
    /// The highest term that was obeyed.
    term: Term,
    pub(super) link: Option<LinkId>,
    pub(super) registered: bool,
    /// When the last session was lost.
    away_since: u64,
    told_leaving: bool,
    /// Number of the address that is tried next.
    address: usize,
    heartbeat_ms: u64,
    pub(super) outbox: Outbox,
    pub(super) lines: Lines,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) next_run: RunId,
}

impl Worker {
    fn new(number: usize, slots: usize) -> Self {
        let ip = IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        // Some stand behind another address, some have only a name.
        let advertises = match number % 8 {
            5 => "10.9.9.9:1".to_owned(),
            6 => format!("w{number}:1"),
            _ => format!("{ip}:1"),
        };
        Self {
            id: WorkerId(format!("w{number}")),
            secret: (number % 8 != 7).then(|| digest(number)),
            ip,
            advertises,
            impostor: false,
            tries: TRIES,
            claims: Vec::new(),
            slots,
            programs: true,
            alive: true,
            unplugged: false,
            leaving: false,
            stopped_until: 0,
            hung_until: 0,
            term: Term(0),
            link: None,
            registered: false,
            away_since: 0,
            told_leaving: false,
            address: number,
            heartbeat_ms: 1_000,
            outbox: Outbox::default(),
            lines: Lines::default(),
            runs: BTreeMap::new(),
            next_run: 0,
        }
    }

    /// Another process that says it is `victim`.
    pub(super) fn impostor(number: usize, victim: &Self, secret: bool) -> Self {
        Self {
            id: victim.id.clone(),
            secret: secret.then(|| digest(number)),
            impostor: true,
            programs: victim.programs,
            claims: victim.known(),
            ..Self::new(number, victim.slots)
        }
    }

    pub(super) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    fn info(&self) -> WorkerInfo {
        WorkerInfo {
            worker: self.id.clone(),
            host: format!("host-{}", self.slots % 2),
            version: "0".to_owned(),
            devices: vec!["cpu".to_owned(); self.slots],
            collective_address: self.advertises.clone(),
            cpu_kind: "kind".to_owned(),
            programs: self.programs,
        }
    }

    /// What runs here, and what has ended without the coordinator's knowing it.
    fn known(&self) -> Vec<RankRef> {
        let runs = self.runs.values();
        let runs = runs.filter(|run| run.stop != Some(Stop::Abandoned));
        let mut known: Vec<RankRef> = runs.map(|run| run.rank.clone()).collect();
        for rank in self.outbox.ended().chain(&self.claims) {
            if !known.contains(rank) {
                known.push(rank.clone());
            }
        }
        known
    }

    /// Whether it has nothing to do and nothing to tell.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.outbox.is_empty() && self.lines.is_empty()
    }

    /// Slots that attempts have taken.
    pub(super) fn taken(&self) -> usize {
        self.runs.values().filter(|run| run.placed).count()
    }
}

impl World {
    pub(super) fn spawn_worker(&mut self, slots: usize, programs: bool) {
        let w = self.workers.len();
        self.workers.push(Worker {
            programs,
            ..Worker::new(w, slots)
        });
        self.say(|| format!("w{w}"), || format!("starts with {slots} slots"));
        let wait = 1 + self.below(100);
        self.after(wait, Due::Connect(w));
    }

    /// Tries the next address.
    pub(super) fn connect(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        if !worker.alive || worker.link.is_some() {
            return;
        }
        if worker.stopped_until > self.now {
            let until = worker.stopped_until;
            return self.at(until, Due::Connect(w));
        }
        if worker.impostor {
            if worker.tries == 0 {
                return self.exit(w, true);
            }
            worker.tries -= 1;
        }
        let worker = &mut self.workers[w];
        let n = worker.address % self.nodes.len();
        worker.address += 1;
        let cut = |way| self.cuts.contains(&(w, n, way));
        if cut(Way::ToCoordinator) || cut(Way::ToWorker) {
            return self.after(CONNECT_TIMEOUT_MS, Due::Connect(w));
        }
        if !self.nodes[n].up {
            return self.connect_later(w);
        }
        let id = self.next_link;
        self.next_link += 1;
        let worker = &mut self.workers[w];
        worker.link = Some(id);
        worker.registered = false;
        worker.told_leaving = false;
        let register = Up::Register {
            info: worker.info(),
            secret: worker.secret,
            running: worker.known(),
            term: worker.term,
        };
        self.links.insert(id, Link::new(w, n));
        self.say_up(id, register);
        self.after(REGISTER_TIMEOUT_MS, Due::RegisterTimeout(id));
    }

    fn connect_later(&mut self, w: usize) {
        let wait = 100 + self.below(MAX_BACKOFF_MS);
        self.after(wait, Due::Connect(w));
    }

    /// No answer to the registration: another address is tried.
    pub(super) fn register_timeout(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let worker = &self.workers[link.worker];
        if worker.link == Some(id) && !worker.registered {
            self.worker_lost_link(id);
        }
    }

    /// The worker finds that its connection is gone, or gives it up.
    pub(super) fn worker_lost_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id).filter(|link| link.worker_open) else {
            return;
        };
        let w = link.worker;
        self.close_from_worker(id);
        let worker = &mut self.workers[w];
        if worker.link == Some(id) {
            worker.link = None;
            if worker.registered {
                worker.registered = false;
                worker.away_since = self.now;
                let since = self.now;
                self.after(config(false).lease_ms, Due::Orphaned(w, since));
            }
            let worker = &self.workers[w];
            if worker.alive {
                self.say(|| format!("w{w}"), || "has lost its coordinator".to_owned());
                self.connect_later(w);
            }
        }
    }

    /// The lease has run out without a coordinator: what may not go on so long stops at a checkpoint.
    pub(super) fn orphaned(&mut self, w: usize, since: u64) {
        let worker = &self.workers[w];
        if !worker.alive || worker.registered || worker.away_since != since {
            return;
        }
        if worker.stopped_until > self.now {
            let until = worker.stopped_until;
            return self.at(until, Due::Orphaned(w, since));
        }
        let lease_s = config(false).lease_ms as f64 / 1_000.0;
        let short = worker.runs.iter().filter(|(_, run)| {
            let variant = variant_of(&run.rank.at.job);
            variant.is_some_and(|variant| variant.job().orphan_timeout <= lease_s)
        });
        for run in short.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stats.hit(Hit::WorkerOrphaned);
            self.request_stop(w, run, Stop::Checkpoint);
        }
    }

    /// A coordinator's message arrives.
    pub(super) fn worker_hears(&mut self, id: LinkId, message: Down) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let w = link.worker;
        if self.workers[w].link != Some(id) || !self.workers[w].alive {
            return;
        }
        let (Down::Machine(term, _) | Down::Probe { term, .. }) = &message else {
            return self.worker_lost_link(id);
        };
        if *term < self.workers[w].term {
            let (term, seen) = (*term, self.workers[w].term);
            self.say(
                || format!("w{w}"),
                || format!("refuses term {term}, having seen {seen}"),
            );
            return self.worker_lost_link(id);
        }
        self.workers[w].term = *term;
        match message {
            Down::Machine(
                _,
                ToWorker::Registered {
                    heartbeat_ms,
                    abandon,
                    ..
                },
            ) => {
                self.registered(w, id, heartbeat_ms, &abandon);
            }
            Down::Machine(..) | Down::Probe { .. } if !self.workers[w].registered => {
                self.violated(format!("w{w} was told something before it was registered"));
            }
            Down::Machine(_, ToWorker::Acknowledged { sequence }) => self.acknowledged(w, sequence),
            Down::Machine(_, ToWorker::LinesStored { through }) => self.lines_stored(w, through),
            Down::Machine(_, ToWorker::Assign(assignment)) => self.assigned(w, *assignment),
            Down::Machine(_, ToWorker::Stop { at, checkpoint, .. }) => {
                let stop = if checkpoint {
                    Stop::Checkpoint
                } else {
                    Stop::Now
                };
                self.stop_attempt(w, &at, stop);
            }
            Down::Probe { path, .. } => {
                let error = self.unlucky(6).then(|| "unreachable".to_owned());
                if error.is_some() {
                    self.stats.hit(Hit::ProbeFailed);
                }
                self.say_up(id, Up::Probed { path, error });
            }
            Down::Closed => {}
        }
    }

    fn registered(&mut self, w: usize, id: LinkId, heartbeat_ms: u64, abandon: &[RankRef]) {
        let worker = &mut self.workers[w];
        worker.registered = true;
        if !worker.programs {
            self.stats.hit(Hit::WorkerRefuses);
        }
        let worker = &mut self.workers[w];
        worker.heartbeat_ms = heartbeat_ms.max(1);
        let leaving = worker.leaving;
        for rank in abandon {
            self.abandon(w, rank);
        }
        self.workers[w].outbox.reconnected();
        self.workers[w].lines.reconnected();
        if leaving {
            self.tell_leaving(w);
        }
        self.pump(w);
        self.after(heartbeat_ms, Due::Heartbeat(w, id));
    }

    pub(super) fn heartbeat(&mut self, w: usize, id: LinkId) {
        let worker = &self.workers[w];
        if worker.link != Some(id) || !worker.alive {
            return;
        }
        if worker.stopped_until > self.now {
            let until = worker.stopped_until;
            return self.at(until, Due::Heartbeat(w, id));
        }
        let wait = worker.heartbeat_ms;
        let runs = worker.runs.values().filter(|run| run.placed);
        let pulses = runs.map(|run| Pulse {
            rank: run.rank.clone(),
            step: run.step,
            signs: run.signs,
        });
        let pulses = pulses.collect();
        self.say_up(id, Up::Heartbeat(pulses));
        self.after(wait, Due::Heartbeat(w, id));
    }

    /// SIGTERM.
    pub(super) fn leave(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        if !worker.alive || worker.leaving {
            return;
        }
        worker.leaving = true;
        let runs: Vec<RunId> = worker.runs.keys().copied().collect();
        self.say(|| format!("w{w}"), || "leaves".to_owned());
        for run in runs {
            self.request_stop(w, run, Stop::Checkpoint);
        }
        self.tell_leaving(w);
        self.after(DRAIN_TIMEOUT_MS, Due::Exit(w));
        self.leave_if_done(w);
    }

    fn tell_leaving(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        if let (Some(id), true, false) = (worker.link, worker.registered, worker.told_leaving) {
            worker.told_leaving = true;
            self.say_up(id, Up::Leaving);
        }
    }

    /// Goes once nothing runs and every report is acknowledged.
    pub(super) fn leave_if_done(&mut self, w: usize) {
        let worker = &self.workers[w];
        let told = worker.outbox.is_empty() && worker.lines.is_empty();
        if worker.alive && worker.leaving && worker.runs.is_empty() && told {
            self.exit(w, true);
        }
    }

    /// The process ends. `closes`: the machine that it ran on tells the other end.
    pub(super) fn exit(&mut self, w: usize, closes: bool) {
        let worker = &mut self.workers[w];
        if !worker.alive {
            return;
        }
        worker.alive = false;
        worker.unplugged = !closes;
        worker.registered = false;
        let link = worker.link.take();
        let runs: Vec<RunId> = worker.runs.keys().copied().collect();
        self.say(
            || format!("w{w}"),
            || if closes { "ends" } else { "is unplugged" }.to_owned(),
        );
        for run in runs {
            self.remove_run(w, run, None);
        }
        if let Some(id) = link {
            if closes {
                self.close_from_worker(id);
            } else {
                self.break_link(id);
            }
        }
        // Whoever looks after the workers starts another. Nobody does after strangers.
        if self.workers[w].impostor {
            return;
        }
        let wait = 500 + self.below(8_000);
        let (slots, programs) = (self.workers[w].slots, self.workers[w].programs);
        self.stats.hit(Hit::WorkerRestarted);
        self.after(wait, Due::Spawn(slots, programs));
    }
}

/// What a process shows of itself.
fn digest(number: usize) -> SecretDigest {
    SecretDigest::of(&number.to_le_bytes())
}

/// A rank in a few letters.
pub(super) fn short(rank: &RankRef) -> String {
    let at = &rank.at;
    format!(
        "{}/{}.{}r{} g{}",
        at.job, at.trial, at.attempt, rank.rank, at.generation
    )
}
