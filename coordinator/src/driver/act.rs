//! What is done once a commit has ended: answers, messages to workers, tasks beside the loop.

use trainyard_common::ids::WorkerId;

use super::decided::After;
use super::keeper::Gone;
use super::knock::Knock;
use super::outbox::Outgoing;
use super::probe::Probe;
use super::{CallError, Driver};
use crate::cluster::api::{Effect, ToWorker};
use crate::cluster::model::SessionId;

impl Driver {
    pub(super) fn act(&mut self, action: After) {
        // Whoever waits for an answer may have gone away: that is no error.
        match action {
            After::Effects(effects) => effects.into_iter().for_each(|effect| self.perform(effect)),
            After::Logged(trials) => {
                for (job, trial) in trials {
                    self.hub.logged(&job, trial);
                }
            }
            After::Answer(reply, answer) => drop(reply.send(answer)),
            After::Open(session, outbox) => drop(self.sessions.insert(session, outbox)),
            After::Joined(reply, answer) => drop(reply.send(answer)),
            After::End(session, reason) => self.end(session, reason),
            After::Forget(session) => drop(self.sessions.remove(&session)),
            After::Read(look) => look(&self.machine),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                worker,
                session,
                message,
            } => self.send(&worker, session, message),
            Effect::Close { session, reason } => self.end(session, CallError::Replaced(reason)),
            Effect::Probe {
                worker,
                session,
                url,
                path,
                content,
                reply_path,
            } => {
                let probe = Probe {
                    worker,
                    url,
                    path,
                    content,
                    reply_path,
                };
                let outbox = self.sessions.get(&session).cloned();
                self.prober.start(probe, outbox, self.reports.clone());
            }
            Effect::Knock {
                worker,
                session,
                address,
                peer,
                until_refused,
            } => {
                let knock = Knock {
                    worker,
                    session,
                    address,
                    peer,
                    until_refused,
                };
                self.knocker.start(knock, self.reports.clone());
            }
            Effect::Archive { job, trials } => {
                self.keeper.archive(job, trials, self.reports.clone());
            }
            Effect::Remove {
                job,
                keep,
                checkpoint_url,
                bundle_url,
            } => {
                let gone = Gone {
                    job,
                    keep,
                    checkpoint_url,
                    bundle_url,
                };
                self.keeper.remove(gone, self.reports.clone());
            }
            Effect::Search { job, ticket, task } => {
                self.thinker.start(job, ticket, task, self.reports.clone());
            }
            Effect::Changed { job, trials } => self.hub.changed(&job, &trials),
        }
    }

    fn send(&mut self, worker: &WorkerId, session: SessionId, message: ToWorker) {
        let Some(outbox) = self.sessions.get(&session) else {
            return;
        };
        if !outbox.send(Outgoing::Machine(message)) {
            tracing::warn!(worker_id = %worker, "the worker's session has ended");
            self.sessions.remove(&session);
        }
    }

    fn end(&mut self, session: SessionId, reason: CallError) {
        if let Some(outbox) = self.sessions.remove(&session) {
            outbox.end(reason);
        }
    }
}
