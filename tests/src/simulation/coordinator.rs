//! Coordinators: processes that lead or stand by, and the driver's turn around the machine. The order
//! is the driver's: apply, commit, act; a commit that fails ends the leadership.

use std::collections::{BTreeMap, VecDeque};

use trainyard_common::ids::{Term, WorkerId};
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::{Effect, Event, Rejection, Reply, Step, ToWorker};
use trainyard_coordinator::cluster::model::SessionId;

use super::batch::Batch;
use super::leaving::Task;
use super::network::{Down, LinkId, Up, Way};
use super::stats::Hit;
use super::world::{Due, World, config};

/// Inputs of one turn, as in the driver.
const MAX_BATCH: usize = 256;

/// A loop that comes round later than it meant to by this much tells the machine, as in the driver.
const STALL_MS: u64 = 500;

/// A batch of reports that comes twice comes again within this.
const ECHO_MS: u64 = 3_000;

/// How long another coordinator waits before it takes over from a silent one.
pub(super) const ELECTION_MS: u64 = 3_000;

/// One thing for the loop.
#[derive(Debug)]
pub(super) enum Input {
    Tell(Option<SessionId>, Event),
    /// A client's request, and which client.
    Ask(usize, Event),
    Join(LinkId, SessionId, Event),
}

/// What waits for the commit.
enum After {
    Effects(Vec<Effect>),
    Answer(usize, Result<Option<Reply>, Rejection>),
    Open(SessionId, LinkId),
    Refuse(LinkId),
    End(SessionId),
    Forget(SessionId),
}

/// How a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Refused,
    /// Written, but the answer is lost.
    Torn,
}

/// A commit on its way.
pub(super) struct Commit {
    node: usize,
    epoch: u64,
    term: u64,
    batch: Batch,
    fate: Fate,
}

/// A leadership.
pub(super) struct Leader {
    pub(super) term: u64,
    pub(super) machine: Machine,
    inbox: VecDeque<Input>,
    pub(super) sessions: BTreeMap<SessionId, LinkId>,
    next_session: u64,
    /// A commit is on its way: the loop waits for it.
    committing: bool,
    after: Vec<After>,
    turn_began: u64,
    /// By its own clock.
    turn_clock: u64,
    spent: u64,
    /// When, by its clock, the loop meant to come round at the latest.
    due: Option<u64>,
    /// When the next turn is queued.
    turn_at: u64,
    /// The newest proof of their store that workers were asked for, by its path.
    asked: BTreeMap<WorkerId, String>,
    /// Workers that have given it.
    pub(super) proven: std::collections::BTreeSet<WorkerId>,
}

/// A coordinator's process, or the lack of one.
#[derive(Default)]
pub(super) struct Node {
    /// Number of its process.
    pub(super) epoch: u64,
    pub(super) up: bool,
    pub(super) stopped_until: u64,
    /// Its wall clock when it started, against the world's.
    pub(super) offset_ms: u64,
    pub(super) leader: Option<Leader>,
}

impl World {
    /// Starts a coordinator's process, with a wall clock of its own.
    pub(super) fn start_node(&mut self, n: usize) {
        let offset_ms = self.plan_clock_offset();
        let node = &mut self.nodes[n];
        node.epoch += 1;
        node.up = true;
        node.stopped_until = 0;
        node.offset_ms = offset_ms;
        self.say(
            || format!("coordinator {n}"),
            || format!("starts, its clock {offset_ms} ms ahead"),
        );
    }

    pub(super) fn clock(&self, n: usize) -> u64 {
        self.now + self.nodes[n].offset_ms
    }

    /// The time by which the leader's newest decisions were made.
    pub(super) fn decided_at(&self, n: usize) -> Option<u64> {
        Some(self.nodes[n].leader.as_ref()?.turn_clock)
    }

    /// Somebody leads from now on, if anybody can.
    pub(super) fn elect(&mut self, forced: bool) {
        let newest = self.store.term;
        let leads = |node: &Node| node.leader.as_ref().is_some_and(|l| l.term == newest);
        let now = self.now;
        let awake = |node: &Node| node.up && node.stopped_until <= now;
        let well = self.nodes.iter().any(|node| leads(node) && awake(node));
        if well && !forced {
            return;
        }
        let mut able = self.nodes.iter().enumerate();
        let able = able.find(|(_, node)| awake(node) && node.leader.is_none());
        match able.map(|(n, _)| n) {
            Some(n) => self.lead(n),
            None if well => {}
            None => self.after(1 + ELECTION_MS / 6, Due::Elect),
        }
    }

    fn lead(&mut self, n: usize) {
        // Who led before notices when its lease is not renewed, if no commit tells it sooner.
        for other in 0..self.nodes.len() {
            if self.nodes[other].leader.is_some() {
                let (epoch, late) = (self.nodes[other].epoch, self.below(2 * ELECTION_MS));
                self.after(late, Due::Deposed(other, epoch));
            }
        }
        let term = self.store.acquire_term(self.now);
        let before = self.nodes.iter().filter(|node| node.leader.is_some());
        let before = before.map(|node| node.offset_ms).max();
        let before = before.unwrap_or(self.last_offset_ms);
        match self.nodes[n].offset_ms.cmp(&before) {
            std::cmp::Ordering::Less => self.stats.hit(Hit::ClockBehind),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.stats.hit(Hit::ClockAhead),
        }
        self.last_offset_ms = self.nodes[n].offset_ms;
        let records = match self.store.load() {
            Ok(records) => records,
            Err(message) => return self.violated(message),
        };
        let clock = self.clock(n);
        let machine = match Machine::restore(Term(term), config(), clock, records) {
            Ok(machine) => machine,
            Err(error) => return self.violated(format!("not restored: {error}")),
        };
        self.stats.leaders += 1;
        self.say(
            || format!("coordinator {n}"),
            || format!("leads with term {term}"),
        );
        self.nodes[n].leader = Some(Leader {
            term,
            machine,
            inbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            committing: false,
            after: Vec::new(),
            turn_began: self.now,
            turn_clock: clock,
            spent: 0,
            due: None,
            turn_at: u64::MAX,
            asked: BTreeMap::new(),
            proven: std::collections::BTreeSet::new(),
        });
        self.check_restored(n);
        self.poke(n, self.now);
    }

    /// A leader that another has taken over from notices it.
    pub(super) fn deposed(&mut self, n: usize, epoch: u64) {
        let node = &self.nodes[n];
        if node.epoch != epoch || !node.up {
            return;
        }
        if node.stopped_until > self.now {
            let until = node.stopped_until;
            return self.at(until, Due::Deposed(n, epoch));
        }
        self.step_down(n, "its lease is lost");
    }

    /// Its leadership is over: the process starts anew and stands by.
    pub(super) fn step_down(&mut self, n: usize, why: &str) {
        if self.nodes[n].leader.take().is_none() {
            return;
        }
        self.say(
            || format!("coordinator {n}"),
            || format!("no longer leads: {why}"),
        );
        self.close_links_of(n);
        self.start_node(n);
        let wait = self.below(ELECTION_MS);
        self.after(wait, Due::Elect);
    }

    /// Everybody who is connected to it sees the connection end.
    pub(super) fn close_links_of(&mut self, n: usize) {
        let links = self.links.iter().filter(|(_, link)| link.node == n);
        let links: Vec<LinkId> = links.map(|(id, _)| *id).collect();
        for id in links {
            self.close_from_node(id);
        }
    }

    /// Queues a turn of the loop.
    fn poke(&mut self, n: usize, at: u64) {
        let epoch = self.nodes[n].epoch;
        if let Some(leader) = &mut self.nodes[n].leader
            && at < leader.turn_at
        {
            leader.turn_at = at;
            self.at(at, Due::Turn(n, epoch));
        }
    }

    pub(super) fn input(&mut self, n: usize, input: Input) {
        if let Some(leader) = &mut self.nodes[n].leader {
            leader.inbox.push_back(input);
            self.poke(n, self.now);
        }
    }

    /// A worker's message arrives.
    pub(super) fn node_hears(&mut self, id: LinkId, message: Up) {
        let Some(link) = self.links.get(&id).filter(|link| link.node_open) else {
            return;
        };
        let (n, session, worker) = (link.node, link.session, link.worker);
        match (message, session) {
            (
                Up::Register {
                    info,
                    running,
                    term,
                },
                _,
            ) => {
                let Some(leader) = &mut self.nodes[n].leader else {
                    self.say(
                        || format!("coordinator {n}"),
                        || format!("does not lead: refuses {}", info.worker),
                    );
                    return self.close_from_node(id);
                };
                let session = SessionId(leader.next_session);
                leader.next_session += 1;
                if let Some(link) = self.links.get_mut(&id) {
                    link.session = Some(session);
                }
                let event = Event::WorkerJoined {
                    info,
                    session,
                    running,
                    term,
                };
                self.input(n, Input::Join(id, session, event));
            }
            (Up::Closed, _) => self.node_lost_link(id),
            (_, None) => {}
            (Up::Heartbeat(pulses), Some(session)) => {
                let beat = Event::Heartbeat { session };
                self.input(n, Input::Tell(Some(session), beat));
                if !pulses.is_empty() {
                    let event = Event::Pulses { session, pulses };
                    self.input(n, Input::Tell(Some(session), event));
                }
            }
            (Up::Leaving, Some(session)) => {
                self.input(n, Input::Tell(Some(session), Event::Leaving { session }));
            }
            (Up::Reports(reports), Some(session)) => {
                self.reported(n, session, Event::Reports { session, reports });
            }
            (Up::Logs(log, rank), Some(session)) => {
                let lines = log.lines;
                let event = Event::Logs {
                    session,
                    rank,
                    first: 0,
                    lines,
                };
                self.input(n, Input::Tell(Some(session), event));
            }
            (Up::Probed { path, error }, Some(_)) => self.probed(n, worker, path, error),
        }
    }

    /// Reports arrive. A harsher network than the real one: a message may come twice, the second time
    /// after later ones.
    fn reported(&mut self, n: usize, session: SessionId, event: Event) {
        if self.unlucky(24) {
            self.stats.hit(Hit::MessageTwice);
            let again = Input::Tell(Some(session), event.clone());
            let wait = self.below(2) * self.below(ECHO_MS);
            if wait == 0 {
                self.input(n, again);
            } else {
                let number = self.echoes.len();
                self.echoes.push(Some(again));
                let epoch = self.nodes[n].epoch;
                self.after(wait, Due::Echo(n, epoch, number));
            }
        }
        self.input(n, Input::Tell(Some(session), event));
    }

    /// A message comes for the second time.
    pub(super) fn echo(&mut self, n: usize, epoch: u64, number: usize) {
        let again = self.echoes.get_mut(number).and_then(Option::take);
        if let Some(again) = again.filter(|_| self.nodes[n].epoch == epoch) {
            self.input(n, again);
        }
    }

    fn probed(&mut self, n: usize, worker: usize, path: String, error: Option<String>) {
        let worker = self.workers[worker].id.clone();
        let event = Event::StoreProbed {
            worker,
            path,
            error,
        };
        self.input(n, Input::Tell(None, event));
    }

    /// The coordinator finds that a connection is gone.
    pub(super) fn node_lost_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id).filter(|link| link.node_open) else {
            return;
        };
        let (n, session) = (link.node, link.session);
        self.close_from_node(id);
        if let Some(session) = session {
            self.input(n, Input::Tell(None, Event::WorkerLost { session }));
        }
    }

    /// One turn of the loop: what is queued is applied, then committed, then acted upon.
    pub(super) fn turn(&mut self, n: usize, epoch: u64) {
        let node = &mut self.nodes[n];
        if node.epoch != epoch || !node.up {
            return;
        }
        let stopped = node.stopped_until;
        let Some(leader) = &mut node.leader else {
            return;
        };
        if leader.turn_at > self.now {
            return;
        }
        leader.turn_at = u64::MAX;
        // The commit's answer brings the next turn.
        if leader.committing {
            return;
        }
        if stopped > self.now {
            return self.poke(n, stopped);
        }
        let Some(mut leader) = node.leader.take() else {
            return;
        };
        let mut batch = Batch::default();
        let clock = self.clock(n);
        let late = leader.due.map_or(0, |due| clock.saturating_sub(due));
        let stalled = leader.spent + late;
        leader.turn_began = self.now;
        leader.turn_clock = clock;
        if stalled >= STALL_MS {
            let event = Event::Stalled { ms: stalled };
            self.take(n, &mut leader, clock, Input::Tell(None, event), &mut batch);
        }
        if leader.machine.next_deadline().is_some_and(|at| at <= clock) {
            self.take(
                n,
                &mut leader,
                clock,
                Input::Tell(None, Event::Tick),
                &mut batch,
            );
        }
        for _ in 0..MAX_BATCH {
            let Some(input) = leader.inbox.pop_front() else {
                break;
            };
            self.take(n, &mut leader, clock, input, &mut batch);
        }
        self.nodes[n].leader = Some(leader);
        if batch.is_empty() {
            self.acted(n);
        } else {
            self.commit(n, batch);
        }
    }

    fn take(&mut self, n: usize, leader: &mut Leader, clock: u64, input: Input, batch: &mut Batch) {
        self.stats.events += 1;
        if self.logs()
            && !matches!(
                &input,
                Input::Tell(
                    _,
                    Event::Heartbeat { .. } | Event::Pulses { .. } | Event::Tick
                )
            )
        {
            self.say(
                || format!("coordinator {n}"),
                || format!("takes {}", shown(&input)),
            );
        }
        let apply = |leader: &mut Leader, event| leader.machine.apply(clock, event);
        let step = match input {
            Input::Tell(session, event) => {
                if let Event::WorkerLost { session } = &event {
                    leader.after.push(After::Forget(*session));
                }
                if let Event::StoreProbed {
                    worker,
                    path,
                    error: None,
                } = &event
                    // An answer to an older question proves nothing.
                    && leader.asked.get(worker) == Some(path)
                {
                    leader.proven.insert(worker.clone());
                }
                match (apply(leader, event), session) {
                    (Ok(step), _) => Some(step),
                    (Err(_), Some(session)) => {
                        leader.after.push(After::End(session));
                        None
                    }
                    (Err(rejection), None) => {
                        self.violated(format!("the machine refused its driver: {rejection}"));
                        None
                    }
                }
            }
            Input::Ask(client, event) => match apply(leader, event) {
                Ok(step) => {
                    leader
                        .after
                        .push(After::Answer(client, Ok(step.reply.clone())));
                    Some(step)
                }
                Err(rejection) => {
                    leader.after.push(After::Answer(client, Err(rejection)));
                    None
                }
            },
            Input::Join(link, session, event) => match apply(leader, event) {
                Ok(step) => {
                    leader.after.push(After::Open(session, link));
                    Some(step)
                }
                Err(_) => {
                    leader.after.push(After::Refuse(link));
                    None
                }
            },
        };
        if let Some(step) = step {
            self.gather(leader, step, batch);
        }
    }

    fn gather(&mut self, leader: &mut Leader, mut step: Step, batch: &mut Batch) {
        if let Err(message) = batch.take(&mut step, self.logs()) {
            self.violated(message);
        }
        if !step.effects.is_empty() {
            leader.after.push(After::Effects(step.effects));
        }
    }

    fn commit(&mut self, n: usize, batch: Batch) {
        self.stats.commits += 1;
        let slow = self.store_slow_until > self.now;
        let fate = match self.store_fault.take() {
            Some(super::plan::Fault::StoreFails) => {
                self.stats.hit(Hit::StoreRefused);
                Fate::Refused
            }
            Some(super::plan::Fault::StoreTorn) => {
                self.stats.hit(Hit::StoreTorn);
                Fate::Torn
            }
            _ => Fate::Written,
        };
        if slow {
            self.stats.hit(Hit::StoreSlow);
        }
        let Some(leader) = &mut self.nodes[n].leader else {
            return;
        };
        leader.committing = true;
        let term = leader.term;
        let commit = Commit {
            node: n,
            epoch: self.nodes[n].epoch,
            term,
            batch,
            fate,
        };
        let most = if slow { 3_000 } else { 12 };
        // Mostly as quick as a disk.
        let wait = if slow || self.below(4) == 0 {
            self.below(most)
        } else {
            0
        };
        if wait == 0 {
            let ok = self.write(commit.term, commit.batch, commit.fate);
            return self.committed(n, commit.epoch, ok);
        }
        let written = wait / 2;
        let number = self.flying_next;
        self.flying_next += 1;
        self.flying.insert(number, commit);
        self.after(written, Due::Written(number, wait - written));
    }

    /// A commit reaches the store; its answer takes `back` more.
    pub(super) fn write_flying(&mut self, number: u64, back: u64) {
        let Some(commit) = self.flying.remove(&number) else {
            return;
        };
        let (n, epoch) = (commit.node, commit.epoch);
        let alive = self.nodes[n].epoch == epoch && self.nodes[n].up;
        // The request of a process that is gone may or may not arrive.
        if !alive && self.below(2) == 0 {
            return;
        }
        if !alive {
            self.stats.hit(Hit::StoreLate);
        }
        let ok = self.write(commit.term, commit.batch, commit.fate);
        self.after(back, Due::Committed(n, epoch, ok));
    }

    /// Whether the leader hears that it was written.
    fn write(&mut self, term: u64, batch: Batch, fate: Fate) -> bool {
        let newest = self.store.term;
        if fate == Fate::Refused || term != newest {
            if term != newest {
                self.stats.hit(Hit::ZombieActed);
            }
            self.say(
                || "store".to_owned(),
                || format!("refuses a commit of term {term}; the newest is {newest}"),
            );
            return false;
        }
        self.stats.records += batch.len() as u64;
        for _ in 0..batch.preempted {
            self.stats.hit(Hit::Preempted);
        }
        if self.logs() {
            let decisions = batch.told().to_vec();
            for told in decisions {
                self.say(|| "store".to_owned(), || told);
            }
        }
        if let Err(message) = self.store.write(batch) {
            self.violated(message);
        }
        self.check_left();
        self.check_clones();
        if fate == Fate::Torn {
            self.say(
                || "store".to_owned(),
                || "commits, but the answer is lost".to_owned(),
            );
        }
        fate == Fate::Written
    }

    /// Whoever goes on from another's checkpoint finds it, unless it broke.
    fn check_clones(&mut self) {
        let mut unfounded = Vec::new();
        for (job, view) in &mut self.store.jobs {
            let clones = view.decisions.unfounded.drain(..);
            unfounded.extend(clones.map(|of| (job.clone(), of)));
        }
        for (job, of) in unfounded {
            let prefix = format!("trials/{}/{:012}-", of.trial, of.resource);
            if !self.objects.any_corrupt(&job, &prefix) {
                self.violated(format!("in {job} {of:?} is copied without its checkpoint"));
            }
        }
    }

    /// The answer to a commit.
    pub(super) fn committed(&mut self, n: usize, epoch: u64, ok: bool) {
        let node = &self.nodes[n];
        if node.epoch != epoch || !node.up {
            return;
        }
        if node.stopped_until > self.now {
            let until = node.stopped_until;
            return self.at(until, Due::Committed(n, epoch, ok));
        }
        if ok {
            self.acted(n);
        } else {
            self.step_down(n, "its commit failed");
        }
    }

    /// Everything of the turn is durable: now it is acted upon.
    fn acted(&mut self, n: usize) {
        let Some(leader) = &mut self.nodes[n].leader else {
            return;
        };
        leader.committing = false;
        // With a lease a leader acts only while it surely holds it; one that stood still between looking
        // at it and acting may still say its last words.
        let (term, began) = (leader.term, leader.turn_began);
        if term != self.store.term {
            if began >= self.store.term_since || self.below(2) == 0 {
                return self.step_down(n, "its lease is lost");
            }
            self.stats.hit(Hit::ZombieActed);
        }
        let Some(leader) = &mut self.nodes[n].leader else {
            return;
        };
        leader.spent = self.now - leader.turn_began;
        let term = Term(leader.term);
        for after in std::mem::take(&mut leader.after) {
            self.act(n, term, after);
        }
        self.look(n);
        let (clock, offset) = (self.clock(n), self.nodes[n].offset_ms);
        let Some(leader) = self.nodes[n].leader.as_mut() else {
            return;
        };
        leader.due = leader.machine.next_deadline().map(|at| at.max(clock + 1));
        let next = if leader.inbox.is_empty() {
            leader.due.map(|at| at - offset)
        } else {
            Some(self.now)
        };
        if let Some(at) = next {
            self.poke(n, at);
        }
    }

    fn act(&mut self, n: usize, term: Term, after: After) {
        match after {
            After::Effects(effects) => {
                for effect in effects {
                    self.perform(n, term, effect);
                }
            }
            After::Answer(client, answer) => self.answered(client, answer),
            After::Open(session, link) => {
                if let Some(leader) = &mut self.nodes[n].leader {
                    leader.sessions.insert(session, link);
                }
            }
            After::Refuse(link) => self.close_from_node(link),
            After::End(session) | After::Forget(session) => self.end_session(n, session),
        }
    }

    fn end_session(&mut self, n: usize, session: SessionId) {
        let Some(leader) = &mut self.nodes[n].leader else {
            return;
        };
        if let Some(link) = leader.sessions.remove(&session) {
            self.close_from_node(link);
        }
    }

    fn perform(&mut self, n: usize, term: Term, effect: Effect) {
        let link = |world: &Self, session| {
            let leader = world.nodes[n].leader.as_ref()?;
            leader.sessions.get(&session).copied()
        };
        match effect {
            Effect::Send {
                session,
                message,
                worker,
            } => {
                self.check_sent(term, &worker, &message);
                if let Some(link) = link(self, session) {
                    self.say_down(link, Down::Machine(term, message));
                }
            }
            Effect::Close { session, .. } => self.end_session(n, session),
            Effect::Probe {
                session,
                path,
                worker,
                ..
            } => {
                if let Some(leader) = &mut self.nodes[n].leader {
                    leader.proven.remove(&worker);
                    leader.asked.insert(worker.clone(), path.clone());
                }
                match link(self, session) {
                    Some(link) => self.say_down(link, Down::Probe { term, path }),
                    None => {
                        let error = Some("the session is gone".to_owned());
                        let event = Event::StoreProbed {
                            worker,
                            path,
                            error,
                        };
                        self.input(n, Input::Tell(None, event));
                    }
                }
            }
            // A knock that nobody answers, as across a partition: only the lease decides.
            Effect::Knock {
                worker,
                session,
                until_refused,
                ..
            } => {
                let epoch = self.nodes[n].epoch;
                let known = self.workers.iter().position(|known| known.id == worker);
                if let Some(w) = known {
                    let wait = if until_refused { 800 } else { 20 };
                    self.after(wait, Due::Knock(n, epoch, w, session));
                }
            }
            Effect::Archive { job, trials } => {
                self.keep(n, term, job, Task::Archive { trials });
            }
            Effect::Remove {
                job,
                keep,
                checkpoint_url,
            } => {
                let checkpoints = checkpoint_url.is_some();
                self.keep(n, term, job, Task::Remove { keep, checkpoints });
            }
            Effect::Changed { .. } => {}
        }
    }

    /// A worker's host accepts a connection, refuses it, or does not answer.
    pub(super) fn knock(&mut self, n: usize, epoch: u64, w: usize, session: SessionId) {
        if self.nodes[n].epoch != epoch || self.workers[w].unplugged {
            return;
        }
        let cut = |way| self.cuts.contains(&(w, n, way));
        if cut(Way::ToCoordinator) || cut(Way::ToWorker) {
            return;
        }
        let event = Event::Knocked {
            worker: self.workers[w].id.clone(),
            session,
            refused: !self.workers[w].alive,
        };
        self.input(n, Input::Tell(None, event));
    }

    /// What is told must be durable already, whatever happens next.
    fn check_sent(&mut self, term: Term, worker: &WorkerId, message: &ToWorker) {
        let ToWorker::Assign(assignment) = message else {
            return;
        };
        if term.0 != self.store.term {
            // A deposed leader's last words: they were durable when it led.
            return;
        }
        let at = &assignment.at;
        let trial = self.store.trial(&at.job, at.trial);
        let attempt = self.store.attempt(at);
        let place = attempt.and_then(|attempt| attempt.ranks.get(assignment.rank as usize));
        if trial.is_none_or(|trial| trial.params != assignment.spec.params)
            || place.is_none_or(|rank| rank.place.worker != *worker)
        {
            self.violated(format!("{at:?} was handed out before it was durable"));
        }
    }
}

/// An input in a line.
fn shown(input: &Input) -> String {
    match input {
        Input::Ask(client, Event::Submit { .. }) => format!("submission {client}"),
        Input::Join(_, session, Event::WorkerJoined { info, running, .. }) => {
            format!(
                "{} as session {}, running {}",
                info.worker,
                session.0,
                running.len()
            )
        }
        Input::Tell(_, event) | Input::Ask(_, event) | Input::Join(_, _, event) => {
            format!("{event:?}")
        }
    }
}
