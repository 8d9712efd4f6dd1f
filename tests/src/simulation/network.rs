//! Connections between workers and coordinators: two directions, each in order, that break, stall
//! and are cut. What was on the way when one breaks is lost; each side finds out at its own time.

use std::collections::{BTreeSet, VecDeque};

use trainyard_common::ids::Term;
use trainyard_coordinator::cluster::api::{Report, ToWorker};
use trainyard_coordinator::cluster::model::{Pulse, RankRef, SecretDigest, SessionId, WorkerInfo};

use super::lines::LineBatch;
use super::stats::Hit;
use super::turn::FULL_MS;
use super::world::{Due, World};

/// A message takes up to this long.
const LATENCY_MS: u64 = 40;

/// On a slow connection it takes up to this much longer.
const SLOW_LATENCY_MS: u64 = 4_000;

/// What was sent before a connection was given up may come up to this much later.
const LATE_MS: u64 = 12_000;

/// A silent connection counts as lost after this long (a ping and its time-out).
pub(super) const KEEPALIVE_MS: u64 = 10_000;

/// Messages that wait for one worker, as in the driver; and in a world of small queues.
const MESSAGES: usize = 1_024;
const TIGHT_MESSAGES: usize = 4;

/// Numbered for ever.
pub(super) type LinkId = u64;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    ToCoordinator,
    ToWorker,
}

/// What a worker says.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Register {
        info: WorkerInfo,
        secret: Option<SecretDigest>,
        running: Vec<RankRef>,
        term: Term,
    },
    Heartbeat(Vec<Pulse>),
    Leaving,
    Reports(Vec<Report>),
    Logs(Box<LineBatch>),
    Probed {
        path: String,
        error: Option<String>,
    },
    Closed,
}

/// What a coordinator says.
#[derive(Debug, Clone)]
pub(super) enum Down {
    Machine(Term, ToWorker),
    Probe { term: Term, path: String },
    Closed,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) worker: usize,
    pub(super) node: usize,
    /// The session at the coordinator, once it has registered.
    pub(super) session: Option<SessionId>,
    up: VecDeque<(u64, Up)>,
    down: VecDeque<(u64, Down)>,
    pub(super) worker_open: bool,
    pub(super) node_open: bool,
    /// Carries nothing any more, though a side may not know it yet.
    broken: bool,
    /// Until then messages are held up.
    pub(super) slow_until: u64,
}

impl Link {
    pub(super) fn new(worker: usize, node: usize) -> Self {
        Self {
            worker,
            node,
            session: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            worker_open: true,
            node_open: true,
            broken: false,
            slow_until: 0,
        }
    }
}

/// Directions that carry nothing at present, by worker and coordinator.
pub(super) type Cuts = BTreeSet<(usize, usize, Way)>;

impl World {
    /// When a message that is sent now arrives, at the earliest.
    fn arrival(&mut self, id: LinkId) -> u64 {
        let due = self.now + 1 + self.below(LATENCY_MS);
        let link = self.links.get(&id);
        if link.is_none_or(|link| link.slow_until <= self.now) {
            return due;
        }
        self.stats.hit(Hit::MessageDelayed);
        due + self.below(SLOW_LATENCY_MS)
    }

    /// Queues a worker's message; what is closed carries nothing.
    pub(super) fn say_up(&mut self, id: LinkId, message: Up) {
        let due = self.arrival(id);
        let Some(link) = self
            .links
            .get_mut(&id)
            .filter(|link| link.worker_open && !link.broken)
        else {
            return;
        };
        let due = link.up.back().map_or(due, |(last, _)| due.max(*last));
        link.up.push_back((due, message));
        self.at(due, Due::Message(id, Way::ToCoordinator));
    }

    pub(super) fn say_down(&mut self, id: LinkId, message: Down) {
        let due = self.arrival(id);
        let Some(link) = self
            .links
            .get_mut(&id)
            .filter(|link| link.node_open && !link.broken)
        else {
            return;
        };
        let due = link.down.back().map_or(due, |(last, _)| due.max(*last));
        link.down.push_back((due, message));
        self.at(due, Due::Message(id, Way::ToWorker));
    }

    /// Whether the worker does not read what it is sent, so that no more can be queued for it.
    pub(super) fn is_slow(&self, id: LinkId) -> bool {
        let most = if self.is_tight() {
            TIGHT_MESSAGES
        } else {
            MESSAGES
        };
        self.links
            .get(&id)
            .is_some_and(|link| link.down.len() >= most)
    }

    /// The worker's side is closed; the other finds out in order.
    pub(super) fn close_from_worker(&mut self, id: LinkId) {
        self.say_up(id, Up::Closed);
        if let Some(link) = self.links.get_mut(&id) {
            link.worker_open = false;
            link.down.clear();
        }
        self.forget_link(id);
    }

    /// The coordinator's side is closed; the other finds out in order.
    pub(super) fn close_from_node(&mut self, id: LinkId) {
        self.say_down(id, Down::Closed);
        if let Some(link) = self.links.get_mut(&id) {
            link.node_open = false;
            link.up.clear();
        }
        self.forget_link(id);
    }

    /// The coordinator's machine is gone: the worker finds out when nothing comes for long enough.
    pub(super) fn silence_from_node(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.node_open = false;
            link.up.clear();
            link.down.clear();
        }
        let late = self.below(KEEPALIVE_MS);
        self.after(late, Due::Hangup(id, Way::ToWorker));
    }

    fn forget_link(&mut self, id: LinkId) {
        let over = self
            .links
            .get(&id)
            .is_some_and(|link| !link.worker_open && !link.node_open);
        if over {
            self.links.remove(&id);
        }
    }

    /// The connection breaks: what is on the way is lost.
    pub(super) fn break_link(&mut self, id: LinkId) {
        let (sooner, later) = (self.below(KEEPALIVE_MS), self.below(KEEPALIVE_MS));
        // Mostly at once: the other side resets the connection.
        let soon = self.below(2) == 0;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.broken = true;
        // Some of what was sent has arrived, though it will never be answered.
        let keep_up = link.up.len() / 2;
        let lost = link.up.len() - keep_up + link.down.len();
        link.up.truncate(keep_up);
        link.down.clear();
        let now = self.now;
        for _ in 0..lost {
            self.stats.hit(Hit::MessageLost);
        }
        let (up, down) = if soon {
            (now + 1, now + 1)
        } else {
            (now + sooner, now + later)
        };
        self.at(up, Due::Hangup(id, Way::ToCoordinator));
        self.at(down, Due::Hangup(id, Way::ToWorker));
    }

    /// The worker gives the connection up, and what it has sent still comes, long after: beside what it
    /// sends on the next one.
    pub(super) fn leave_link_behind(&mut self, id: LinkId) {
        let (late, hangup) = (self.below(LATE_MS), self.below(KEEPALIVE_MS));
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        link.down.clear();
        let mut last = self.now;
        let mut dues = Vec::new();
        for (due, _) in &mut link.up {
            *due += late;
            last = last.max(*due);
            dues.push(*due);
        }
        for due in dues {
            self.at(due, Due::Message(id, Way::ToCoordinator));
        }
        let now = self.now;
        self.at(now + 1, Due::Hangup(id, Way::ToWorker));
        self.at(last + hangup, Due::Hangup(id, Way::ToCoordinator));
    }

    /// One side finds that the connection is gone.
    pub(super) fn hangup(&mut self, id: LinkId, way: Way) {
        match way {
            Way::ToWorker => self.worker_lost_link(id),
            Way::ToCoordinator => self.node_lost_link(id),
        }
    }

    /// Delivers what is due in one direction.
    pub(super) fn deliver(&mut self, id: LinkId, way: Way) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (worker, node) = (link.worker, link.node);
        let first = match way {
            Way::ToCoordinator => link.up.front().map(|(due, _)| *due),
            Way::ToWorker => link.down.front().map(|(due, _)| *due),
        };
        let Some(due) = first else { return };
        if due > now {
            return;
        }
        // Who is stopped or cut off gets it later, or never.
        let stopped = match way {
            Way::ToCoordinator => 0,
            Way::ToWorker => self.workers[worker].stopped_until,
        };
        let cut = self.cuts.contains(&(worker, node, way));
        if cut || stopped > now {
            let later = if cut { now + 500 } else { stopped };
            self.at(later, Due::Message(id, way));
            return;
        }
        if way == Way::ToCoordinator && self.is_full(node) {
            return self.at(now + FULL_MS, Due::Message(id, way));
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match way {
            Way::ToCoordinator => {
                let message = link.up.pop_front();
                let newer = self.workers[worker].link.is_some_and(|newest| newest > id);
                if let Some((_, message)) = message {
                    if newer && !matches!(message, Up::Closed) {
                        self.stats.hit(Hit::MessageOvertaken);
                    }
                    self.node_hears(id, message);
                }
            }
            Way::ToWorker => {
                let message = link.down.pop_front();
                if let Some((_, message)) = message {
                    self.worker_hears(id, message);
                }
            }
        }
    }
}
