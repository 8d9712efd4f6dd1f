//! Who comes, and who is to go: events about workers, by what they ask.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::{Event, Rejection, Reply};

impl Machine {
    /// Who comes, and who is to go.
    ///
    /// # Errors
    /// Another is meant, or nobody; nothing has changed.
    pub(in crate::cluster) fn fleet_event(&mut self, event: Event) -> Result<(), Rejection> {
        match event {
            Event::WorkerJoined {
                info,
                secret,
                peer,
                session,
                running,
                term,
            } => {
                self.check_worker(&info, term)?;
                self.check_identity(&info.worker, secret.as_ref())?;
                self.claim_identity(&info.worker, secret);
                self.worker_joined(info, peer, session, running);
            }
            Event::ForgetWorker { worker } => self.forget(&worker)?,
            Event::Drain { worker, undo } => self.drain(&worker, undo)?,
            // Every other is the caller's.
            _ => {}
        }
        Ok(())
    }

    /// An operator says that a worker's process is gone: what it ran is placed again at once, its drain is
    /// taken back, and its id is free. Asked twice it is unknown.
    pub(in crate::cluster) fn forget(&mut self, worker: &WorkerId) -> Result<(), Rejection> {
        let known = self.workers.get(worker);
        if known.is_some_and(|known| known.session.is_some()) {
            return Err(Rejection::Connected {
                worker: worker.clone(),
            });
        }
        let attempts = known.map_or(0, |known| known.held().len());
        let shown = self.workers.is_lost(worker) || self.drains.contains_key(worker);
        if known.is_none() && !shown && !self.identities.knows(worker) {
            return Err(self.unknown_worker(worker));
        }
        self.worker_gone(worker, "an operator has forgotten it");
        self.free_identity(worker);
        self.forget_drain(worker);
        self.workers.forget_lost(worker);
        self.dirty = true;
        self.draft.step.reply = Some(Reply::Forgotten {
            worker: worker.clone(),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        });
        Ok(())
    }
}
