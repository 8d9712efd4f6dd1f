//! Draining: a worker that gets nothing new and whose attempts move away at a checkpoint.
//!
//! Somebody asks for it, which is stored and holds until it is taken back; or the worker's process
//! announces that it leaves, which ends with the process.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::model::SessionId;

/// Workers that an unknown one's error names.
const MAX_NAMED: usize = 8;

impl Machine {
    /// Asks a worker to drain, or takes that back. Asked twice, nothing changes.
    pub(in crate::cluster) fn drain(
        &mut self,
        worker: &WorkerId,
        undo: bool,
    ) -> Result<(), Rejection> {
        let known = self.workers.contains_key(worker) || self.drains.contains_key(worker);
        if !known {
            return Err(self.unknown_worker(worker));
        }
        if undo {
            self.undrain(worker);
        } else if !self.drains.contains_key(worker) {
            self.remember_drain(worker);
        }
        self.take_drained(worker);
        self.dirty = true;
        let held = self.workers.get(worker).map_or(0, |w| w.held().len());
        self.draft.step.reply = Some(Reply::Drained {
            worker: worker.clone(),
            draining: self.drains.contains_key(worker),
            attempts: u32::try_from(held).unwrap_or(u32::MAX),
        });
        Ok(())
    }

    pub(in crate::cluster) fn unknown_worker(&self, worker: &WorkerId) -> Rejection {
        let names: Vec<&str> = self.workers.keys().map(WorkerId::as_str).collect();
        Rejection::UnknownWorker {
            worker: worker.clone(),
            known: match names.len() {
                0 => "no worker is known".to_owned(),
                n if n <= MAX_NAMED => format!("known are {}", names.join(", ")),
                n => format!("{n} others are known"),
            },
        }
    }

    /// The worker's process leaves by itself: its attempts are stopping.
    pub(in crate::cluster) fn leaving(&mut self, session: SessionId) {
        if let Some(id) = self.seen(session)
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.draining = true;
            worker.leaving = true;
            self.refresh(&id);
            self.dirty = true;
        }
    }

    /// A worker's host has accepted a connection, or has refused one.
    ///
    /// Refused, after the session broke, by a host that had accepted before: the process is gone. Only
    /// then; where nothing was ever accepted, the address may not be the worker's from here.
    pub(in crate::cluster) fn knocked(&mut self, id: &WorkerId, session: SessionId, refused: bool) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        if worker.newest_session != session {
            return;
        }
        if !refused {
            worker.answers = true;
        } else if worker.session.is_none() && worker.answers {
            self.worker_gone(id, "its connection broke and its host refuses another");
        }
    }
}
