//! Draining: a worker that gets nothing new and whose attempts move away at a checkpoint.
//!
//! Somebody asks for it, which is stored and holds until it is taken back; or the worker's process
//! announces that it leaves, which ends with the process.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::{Effect, Rejection, Reply};
use crate::cluster::model::{SessionId, Vacate, WorkerRecord, worker_key};

/// Drained workers that are remembered; the oldest are forgotten first. Names are unique for each process,
/// so that most of them are never heard of again.
pub(in crate::cluster) const MAX_DRAINS: usize = 1_000;

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
            let names: Vec<&str> = self.workers.keys().map(WorkerId::as_str).collect();
            return Err(Rejection::UnknownWorker {
                worker: worker.clone(),
                known: match names.len() {
                    0 => "no worker is known".to_owned(),
                    n if n <= MAX_NAMED => format!("known are {}", names.join(", ")),
                    n => format!("{n} others are known"),
                },
            });
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

    fn remember_drain(&mut self, worker: &WorkerId) {
        let record = WorkerRecord {
            worker: worker.clone(),
            drained_ms: self.now,
        };
        self.drains.insert(worker.clone(), record);
        self.draft.workers.insert(worker.clone());
        while self.drains.len() > MAX_DRAINS {
            let oldest = self.drains.values().min_by_key(|drain| drain.drained_ms);
            match oldest.map(|drain| drain.worker.clone()) {
                Some(oldest) => self.forget_drain(&oldest),
                None => break,
            }
        }
    }

    /// Removes the record of a drain.
    pub(in crate::cluster) fn forget_drain(&mut self, worker: &WorkerId) {
        if self.drains.remove(worker).is_some() {
            self.draft.workers.remove(worker);
            self.draft.step.removed.push(worker_key(worker));
        }
    }

    fn undrain(&mut self, worker: &WorkerId) {
        self.forget_drain(worker);
        if let Some(known) = self.workers.get_mut(worker) {
            known.draining = known.leaving;
        }
        self.refresh(worker);
    }

    /// Nothing new for a drained worker, and what it runs is to move.
    pub(in crate::cluster) fn take_drained(&mut self, worker: &WorkerId) {
        let drained = self.drains.contains_key(worker);
        let Some(known) = self.workers.get_mut(worker).filter(|_| drained) else {
            return;
        };
        known.draining = true;
        let held = known.held();
        self.refresh(worker);
        for rank in held {
            let reason = format!("worker {worker} is drained");
            self.vacate(&rank.at, Vacate::Drain, &reason);
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

    /// Asks the driver to knock at a worker's host.
    pub(in crate::cluster) fn knock(&mut self, id: &WorkerId, session: SessionId) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        if !worker.info.collective_address.is_empty() {
            self.draft.step.effects.push(Effect::Knock {
                worker: id.clone(),
                session,
                address: worker.info.collective_address.clone(),
                until_refused: worker.session.is_none(),
            });
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
