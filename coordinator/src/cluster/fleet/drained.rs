//! Workers that get nothing new and whose attempts move away at a checkpoint.

use core::net::SocketAddr;

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::api::Effect;
use crate::cluster::model::{SessionId, Vacate, WorkerRecord, worker_key};

/// Drained workers that are remembered; the oldest are forgotten first. Names are unique for each process,
/// so that most of them are never heard of again.
pub(in crate::cluster) const MAX_DRAINS: usize = 1_000;

impl Machine {
    pub(in crate::cluster) fn remember_drain(&mut self, worker: &WorkerId) {
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

    pub(in crate::cluster) fn undrain(&mut self, worker: &WorkerId) {
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

    /// Asks the driver to knock at a worker's host: there alone from where the worker speaks. Elsewhere it
    /// would tell whoever names an address what answers there; nothing but the lease decides then.
    pub(in crate::cluster) fn knock(&mut self, id: &WorkerId, session: SessionId) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let address = &worker.info.collective_address;
        let Some(peer) = worker.peer.filter(|_| !address.is_empty()) else {
            return;
        };
        // A name is looked up by the driver, which compares what it finds.
        let elsewhere = |named: SocketAddr| named.ip().to_canonical() != peer.to_canonical();
        if address.parse().is_ok_and(elsewhere) {
            return;
        }
        self.draft.step.effects.push(Effect::Knock {
            worker: id.clone(),
            session,
            address: address.clone(),
            peer,
            until_refused: worker.session.is_none(),
        });
    }
}
