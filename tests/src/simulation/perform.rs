//! What a leader does once its commit is durable: answers, messages, knocks, and what its keeper is asked.

use std::net::{IpAddr, SocketAddr};

use trainyard_common::ids::{Term, WorkerId};
use trainyard_coordinator::cluster::api::{Effect, Event, ToWorker};
use trainyard_coordinator::cluster::model::SessionId;

use super::leaving::Task;
use super::network::{Down, LinkId, Way};
use super::stats::Hit;
use super::turn::{After, Input};
use super::worker::Worker;
use super::world::{Due, World};

impl World {
    pub(super) fn act(&mut self, n: usize, term: Term, after: After) {
        match after {
            After::Effects(effects) => {
                for effect in effects {
                    self.perform(n, term, effect);
                }
            }
            After::Logged(trials) => {
                for (job, trial) in trials {
                    self.notify(n, &job, |changes| {
                        changes.logs.insert(trial);
                    });
                }
            }
            After::Answer(client, answer) => self.answered(client, answer),
            After::Open(session, link, worker) => {
                self.owns(worker);
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
                    self.send(n, session, link, Down::Machine(term, message));
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
                    Some(link) => self.send(n, session, link, Down::Probe { term, path }),
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
            Effect::Knock {
                worker,
                session,
                address,
                peer,
                until_refused,
            } => self.begin_knock(n, &worker, session, (&address, peer), until_refused),
            Effect::Archive { job, trials } => {
                self.keep(n, term, job, Task::Archive { trials });
            }
            Effect::Remove {
                job,
                keep,
                checkpoint_url,
                ..
            } => {
                let checkpoints = checkpoint_url.is_some();
                if let Some(leader) = &mut self.nodes[n].leader {
                    leader.removals += 1;
                }
                self.keep(n, term, job, Task::Remove { keep, checkpoints });
            }
            Effect::Search { job, ticket, task } => self.think(n, job, ticket, task),
            Effect::Changed { job, trials } => self.notify(n, &job, |changes| {
                changes.job = true;
                changes.trials.extend(&trials);
            }),
        }
    }

    /// A knock at the worker's own address. One that nobody answers, as across a partition, leaves the lease
    /// to decide.
    fn begin_knock(
        &mut self,
        n: usize,
        worker: &WorkerId,
        session: SessionId,
        (address, peer): (&str, IpAddr),
        until_refused: bool,
    ) {
        let named = address.parse().map(|named: SocketAddr| named.ip());
        if named.is_ok_and(|named| named != peer) {
            self.violated(format!(
                "{worker} speaks from {peer}, and {address} is knocked at"
            ));
        }
        let epoch = self.nodes[n].epoch;
        let speaks = |known: &Worker| known.id == *worker && known.ip == peer;
        if let Some(w) = self.workers.iter().position(speaks) {
            let wait = if until_refused { 800 } else { 20 };
            self.after(wait, Due::Knock(n, epoch, w, session));
        }
    }

    /// Queues a message for a worker, or ends its session where it does not keep up.
    fn send(&mut self, n: usize, session: SessionId, link: LinkId, message: Down) {
        if !self.is_slow(link) {
            return self.say_down(link, message);
        }
        self.stats.hit(Hit::WorkerTooSlow);
        self.end_session(n, session);
        self.input(n, Input::Tell(None, Event::WorkerLost { session }));
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
        self.check_copies(assignment);
    }
}

/// An input in a line.
pub(super) fn shown(input: &Input) -> String {
    match input {
        Input::Ask(client, Event::Submit { .. }) => format!("submission {client}"),
        Input::Join(_, _, session, Event::WorkerJoined { info, running, .. }) => {
            format!(
                "{} as session {}, running {}",
                info.worker,
                session.0,
                running.len()
            )
        }
        Input::Tell(_, Event::Searched { job, computed, .. }) => {
            let fails = computed.as_ref().err();
            format!(
                "the answer of the searcher of {job}: {}",
                fails.map_or("it is back", |error| error)
            )
        }
        Input::Read(reader, _) => format!("a look for reader {reader}"),
        Input::Lie(_, event, _) => format!("a lie: {event:?}"),
        Input::Tell(_, event) | Input::Ask(_, event) | Input::Join(_, _, _, event) => {
            format!("{event:?}")
        }
    }
}
