//! Coordinators: processes that lead or stand by, elections, and what leaders hear from workers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trainyard_common::ids::{Generation, JobId, Term, WorkerId};
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::Event;
use trainyard_coordinator::cluster::model::SessionId;

use super::network::{LinkId, Up};
use super::readers::Changes;
use super::stats::Hit;
use super::turn::{After, Input};
use super::world::{Due, World, config};

/// A batch of reports or lines that comes twice comes again within this.
const ECHO_MS: u64 = 3_000;

/// How long another coordinator waits before it takes over from a silent one.
pub(super) const ELECTION_MS: u64 = 3_000;

/// A leadership.
pub(super) struct Leader {
    pub(super) term: u64,
    pub(super) machine: Machine,
    pub(super) inbox: VecDeque<Input>,
    pub(super) sessions: BTreeMap<SessionId, LinkId>,
    pub(super) next_session: u64,
    /// A commit is on its way: the loop waits for it.
    pub(super) committing: bool,
    /// Commits that it has begun.
    pub(super) commits: u64,
    pub(super) after: Vec<After>,
    /// Readers that look at the machine once the commit is durable, and in which of their calls.
    pub(super) looks: Vec<(usize, u64)>,
    pub(super) turn_began: u64,
    /// By its own clock.
    pub(super) turn_clock: u64,
    pub(super) spent: u64,
    /// When, by its clock, the loop meant to come round at the latest.
    pub(super) due: Option<u64>,
    /// When the next turn is queued.
    pub(super) turn_at: u64,
    /// The newest proof of their store that workers were asked for, by its path.
    pub(super) asked: BTreeMap<WorkerId, String>,
    /// Workers that have given it.
    pub(super) proven: BTreeSet<WorkerId>,
    /// Which process joined last under each id.
    pub(super) joined: BTreeMap<WorkerId, usize>,
    /// Readers of jobs, and what has changed since they last looked.
    pub(super) watchers: BTreeMap<usize, (JobId, Changes)>,
    /// Removals of jobs that have begun.
    pub(super) removals: u64,
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
        let able = self.nodes.iter().enumerate();
        let able = able.filter(|(_, node)| awake(node) && node.leader.is_none());
        let able: Vec<usize> = able.map(|(n, _)| n).collect();
        match able.len() as u64 {
            0 if well => {}
            0 => self.after(1 + ELECTION_MS / 6, Due::Elect),
            some => {
                let which = self.below(some) as usize;
                self.lead(able[which]);
            }
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
        let machine = match Machine::restore(Term(term), config(self.plan.late), clock, records) {
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
            commits: 0,
            after: Vec::new(),
            looks: Vec::new(),
            turn_began: self.now,
            turn_clock: clock,
            spent: 0,
            due: None,
            turn_at: u64::MAX,
            asked: BTreeMap::new(),
            proven: BTreeSet::new(),
            joined: BTreeMap::new(),
            watchers: BTreeMap::new(),
            removals: 0,
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
                    secret,
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
                    secret,
                    peer: Some(self.workers[worker].ip),
                    session,
                    running,
                    term,
                };
                self.input(n, Input::Join(id, worker, session, event));
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
                self.told(n, session, Event::Reports { session, reports });
            }
            (Up::Logs(batch), Some(session)) => {
                let mut rank = batch.rank;
                // A batch of lines does not tell a generation.
                rank.at.generation = Generation(0);
                let event = Event::Logs {
                    session,
                    rank,
                    first: batch.first,
                    lines: batch.lines,
                };
                self.told(n, session, event);
            }
            (Up::Probed { path, error }, Some(_)) => self.probed(n, worker, path, error),
        }
    }

    /// Reports or log lines arrive. A harsher network than the real one: a message may come twice, the
    /// second time after later ones.
    fn told(&mut self, n: usize, session: SessionId, event: Event) {
        if self.unlucky(24) {
            self.stats.hit(match event {
                Event::Logs { .. } => Hit::LinesTwice,
                _ => Hit::MessageTwice,
            });
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
}
