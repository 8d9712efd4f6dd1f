//! The driver's turn around the machine, in the driver's order: apply, commit, act; a commit that fails
//! ends the leadership.

use trainyard_common::ids::{JobId, Term, TrialId};
use trainyard_coordinator::cluster::api::{Effect, Event, Rejection, Reply, Step};
use trainyard_coordinator::cluster::model::{RankRef, SessionId};

use super::batch::Batch;
use super::coordinator::Leader;
use super::network::LinkId;
use super::perform::shown;
use super::plan;
use super::stats::Hit;
use super::world::{Due, World};

/// Inputs of one turn, as in the driver.
const MAX_BATCH: usize = 256;

/// Inputs that wait for the loop, as in the driver; and in a world of small queues.
const QUEUE: usize = 1_024;
const TIGHT_QUEUE: usize = 4;

/// Who has something for a full queue tries again after this.
pub(super) const FULL_MS: u64 = 25;

/// A loop that comes round later than it meant to by this much tells the machine, as in the driver.
const STALL_MS: u64 = 500;

/// One thing for the loop.
#[derive(Debug)]
pub(super) enum Input {
    Tell(Option<SessionId>, Event),
    /// A client's request, and which client.
    Ask(usize, Event),
    /// On which connection, and which process.
    Join(LinkId, usize, SessionId, Event),
    /// A report of a rank that is another's, on a session of its own.
    Lie(SessionId, Event, RankRef),
    /// A look at the machine, by which reader and in which of its calls.
    Read(usize, u64),
}

/// What waits for the commit.
pub(super) enum After {
    Effects(Vec<Effect>),
    /// These have new log lines.
    Logged(Vec<(JobId, TrialId)>),
    Answer(usize, Result<Option<Reply>, Rejection>),
    Open(SessionId, LinkId, usize),
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

impl World {
    /// Queues a turn of the loop.
    pub(super) fn poke(&mut self, n: usize, at: u64) {
        let epoch = self.nodes[n].epoch;
        if let Some(leader) = &mut self.nodes[n].leader
            && at < leader.turn_at
        {
            leader.turn_at = at;
            self.at(at, Due::Turn(n, epoch));
        }
    }

    /// Whether the leader's loop has no room for more: who has something for it waits.
    pub(super) fn is_full(&mut self, n: usize) -> bool {
        let most = if self.is_tight() { TIGHT_QUEUE } else { QUEUE };
        let leader = self.nodes[n].leader.as_ref();
        let full = leader.is_some_and(|leader| leader.inbox.len() >= most);
        if full {
            self.stats.hit(Hit::QueueFull);
        }
        full
    }

    pub(super) fn input(&mut self, n: usize, input: Input) {
        if let Some(leader) = &mut self.nodes[n].leader {
            leader.inbox.push_back(input);
            self.poke(n, self.now);
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
        if leader.term != self.store.term && leader.commits == 0 {
            self.stats.hit(Hit::StaleLeader);
        }
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
        let asked = match &input {
            Input::Tell(_, event)
            | Input::Ask(_, event)
            | Input::Join(_, _, _, event)
            | Input::Lie(_, event, _) => Some(self.asked_of(event)),
            Input::Read(..) => None,
        };
        let apply = |leader: &mut Leader, event| leader.machine.apply(clock, event);
        let step = match input {
            Input::Tell(session, event) => self.tell_machine(leader, clock, session, event),
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
            Input::Read(reader, call) => {
                leader.looks.push((reader, call));
                None
            }
            Input::Lie(session, event, rank) => {
                self.lie(leader, clock, (session, event), &rank, batch)
            }
            Input::Join(link, worker, session, event) => {
                let joined = self.join(leader, clock, worker, event);
                leader.after.push(match joined {
                    Some(_) => After::Open(session, link, worker),
                    None => After::Refuse(link),
                });
                joined
            }
        };
        if let Some((step, asked)) = step.zip(asked) {
            self.check_effort(leader.term, asked, &step, batch);
            self.gather(leader, step, batch);
        }
    }

    /// News; of a session, or of the driver itself.
    fn tell_machine(
        &mut self,
        leader: &mut Leader,
        clock: u64,
        session: Option<SessionId>,
        event: Event,
    ) -> Option<Step> {
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
        match (leader.machine.apply(clock, event), session) {
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

    /// A report of what is another's.
    fn lie(
        &mut self,
        leader: &mut Leader,
        clock: u64,
        (session, event): (SessionId, Event),
        rank: &RankRef,
        batch: &Batch,
    ) -> Option<Step> {
        let step = self.tell_machine(leader, clock, Some(session), event)?;
        self.check_lie(leader.term, rank, &step, batch);
        Some(step)
    }

    /// Process `w` registers.
    fn join(&mut self, leader: &mut Leader, clock: u64, w: usize, event: Event) -> Option<Step> {
        let before = self.before_join(leader, w);
        let joined = leader.machine.apply(clock, event);
        if let Some(before) = before {
            self.check_join(leader, w, &before, joined.is_ok());
        }
        if joined.is_ok() {
            leader.joined.insert(self.workers[w].id.clone(), w);
        }
        joined.ok()
    }

    fn gather(&mut self, leader: &mut Leader, mut step: Step, batch: &mut Batch) {
        let logged = step.logs.iter();
        let logged: Vec<_> = logged.map(|log| (log.job.clone(), log.trial)).collect();
        if !logged.is_empty() {
            leader.after.push(After::Logged(logged));
        }
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
            Some(plan::Fault::StoreFails) => {
                self.stats.hit(Hit::StoreRefused);
                Fate::Refused
            }
            Some(plan::Fault::StoreTorn) => {
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
        leader.commits += 1;
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
        self.heed_decisions();
        if fate == Fate::Torn {
            self.say(
                || "store".to_owned(),
                || "commits, but the answer is lost".to_owned(),
            );
        }
        fate == Fate::Written
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
        let looks = std::mem::take(&mut leader.looks);
        for after in std::mem::take(&mut leader.after) {
            self.act(n, term, after);
        }
        // Behind all else, so that who looks was told of all that is to be seen.
        for (reader, call) in looks {
            self.read(n, reader, call);
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
}
