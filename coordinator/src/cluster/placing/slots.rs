//! The machine's slots as placement knows them: every change of a worker or a slot is told to the index of
//! free slots and to the account of its workspace, so that nobody has to look at all workers.

use trainyard_common::ids::{JobId, WorkerId};
use trainyard_common::spec::Device;

use crate::cluster::Machine;
use crate::cluster::model::{Proof, RankRef, Worker};
use crate::cluster::parts::Account;
use crate::placement::index::{Host, Standing};
use crate::placement::{Needs, Place, at};

impl Machine {
    /// A rank gets a slot.
    pub(in crate::cluster) fn occupy(&mut self, place: &Place, rank: RankRef) {
        let worker = self.workers.get_mut(&place.worker);
        let slot = worker.and_then(|worker| worker.slots.get_mut(place.slot as usize));
        if let Some(held) = slot {
            let job = rank.at.job.clone();
            *held = Some(rank);
            self.slots.take(&place.worker, place.slot);
            self.charge(&job, 1);
        }
    }

    /// Frees the slots that a rank holds.
    pub(in crate::cluster) fn release(&mut self, rank: &RankRef) {
        let place = self.attempt(&rank.at).and_then(|attempt| {
            let known = attempt.ranks.get(rank.rank as usize)?;
            Some(known.place.worker.clone())
        });
        let Some(id) = place else { return };
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        self.dirty = true;
        for slot in worker.release(rank) {
            self.slots.give(&id, slot);
            self.charge(&rank.at.job, -1);
        }
        // It may have been suspect for this rank.
        if !self.slots.index().usable(&id) {
            self.refresh(&id);
        }
    }

    /// A job holds so many slots more, or fewer.
    pub(in crate::cluster) fn charge(&mut self, job: &JobId, more: i64) {
        let jobs = &self.jobs;
        self.slots.charge(job, more, || {
            let found = jobs.get(job)?;
            Some(Account {
                workspace: found.record.workspace.clone(),
                device: at(found.document.job().resources.device),
                priority: found.record.priority,
                slots: 0,
            })
        });
    }

    /// A worker that is new, or another than it was.
    pub(in crate::cluster) fn reindex(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else {
            self.forget_worker(id);
            return;
        };
        let devices: Vec<Device> = (0..worker.slots.len()).map(|s| worker.device(s)).collect();
        let host = Host {
            machine: worker.info.host.clone(),
            cpu_kind: worker.info.cpu_kind.clone(),
            devices,
        };
        let held = (0u32..).zip(&worker.slots);
        let held = held.filter_map(|(slot, held)| held.is_some().then_some(slot));
        self.slots.insert(id, &host, held);
        self.refresh_standings(id);
        self.refresh(id);
        self.workers_changed = true;
    }

    pub(in crate::cluster) fn forget_worker(&mut self, id: &WorkerId) {
        self.slots.remove(id);
        self.workers_changed = true;
    }

    /// Whether something may be placed on a worker may have changed.
    pub(in crate::cluster) fn refresh(&mut self, id: &WorkerId) {
        let usable = self.workers.get(id).is_some_and(|w| self.placeable(w));
        if self.slots.set_usable(id, usable) {
            self.workers_changed = true;
            self.dirty = true;
        }
    }

    pub(in crate::cluster) fn refresh_all(&mut self) {
        let all: Vec<WorkerId> = self.workers.keys().cloned().collect();
        all.iter().for_each(|id| self.refresh(id));
    }

    /// What time alone changes: who has been silent for too long, and who may be asked for a proof again.
    pub(in crate::cluster) fn refresh_due(&mut self) {
        let now = self.now;
        let silent = |(id, worker): &(&WorkerId, &Worker)| {
            self.suspect_at(worker) <= now && self.slots.index().usable(id)
        };
        let silent = self.workers.iter().filter(silent);
        let silent: Vec<WorkerId> = silent.map(|(id, _)| id.clone()).collect();
        silent.iter().for_each(|id| self.refresh(id));
        for (id, worker) in self.workers.iter() {
            for (url, proof) in &worker.stores {
                if matches!(proof, Proof::Failed { retry_ms, .. } if *retry_ms <= now) {
                    for needs in all_needs(url) {
                        let standing = standing(worker, &needs, now);
                        self.slots.set_standing(id, &needs, standing);
                    }
                }
            }
        }
    }

    /// Where a worker stands with all that jobs need.
    pub(in crate::cluster) fn refresh_standings(&mut self, id: &WorkerId) {
        let all: Vec<Needs> = self.slots.needs().cloned().collect();
        all.iter()
            .for_each(|needs| self.refresh_standing(id, needs));
    }

    /// Where a worker stands with a store, whoever uses it.
    pub(in crate::cluster) fn refresh_store(&mut self, id: &WorkerId, url: &str) {
        for needs in all_needs(url) {
            self.refresh_standing(id, &needs);
        }
    }

    fn refresh_standing(&mut self, id: &WorkerId, needs: &Needs) {
        let worker = self.workers.get(id);
        let standing = worker.and_then(|worker| standing(worker, needs, self.now));
        self.slots.set_standing(id, needs, standing);
        self.workers_changed = true;
    }

    /// A job needs this from now on; the last one to leave closes it.
    pub(in crate::cluster) fn open(&mut self, needs: &Needs) {
        if self.slots.open(needs) {
            let all: Vec<WorkerId> = self.workers.keys().cloned().collect();
            all.iter().for_each(|id| self.refresh_standing(id, needs));
        }
    }
}

/// What jobs that use a store may need.
fn all_needs(url: &str) -> [Needs; 2] {
    [false, true].map(|programs| Needs {
        store: url.to_owned(),
        programs,
    })
}

fn standing(worker: &Worker, needs: &Needs, now: u64) -> Option<Standing> {
    if !worker.may_serve(needs.programs) {
        return None;
    }
    match worker.stores.get(&needs.store) {
        Some(Proof::Proven) => Some(Standing::Proven),
        Some(Proof::Failed { retry_ms, .. }) if *retry_ms > now => None,
        Some(Proof::Asked { .. }) => None,
        Some(Proof::Failed { .. }) | None => Some(Standing::Unasked),
    }
}
