//! The machine's slots as placement knows them: every change of a worker or a slot is told to the index of
//! free slots and to the account of its workspace, so that nobody has to look at all workers.

use trainyard_common::ids::{JobId, WorkerId};
use trainyard_common::spec::Device;

use crate::cluster::Machine;
use crate::cluster::model::{Proof, RankRef, Worker};
use crate::placement::index::{Host, Standing};
use crate::placement::{Place, at};

/// What a job holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Account {
    pub(in crate::cluster) workspace: String,
    device: usize,
    pub(in crate::cluster) priority: i32,
    pub(in crate::cluster) slots: u32,
}

impl Machine {
    /// A rank gets a slot.
    pub(in crate::cluster) fn occupy(&mut self, place: &Place, rank: RankRef) {
        let worker = self.workers.get_mut(&place.worker);
        let slot = worker.and_then(|worker| worker.slots.get_mut(place.slot as usize));
        if let Some(held) = slot {
            let job = rank.at.job.clone();
            *held = Some(rank);
            self.index.take(&place.worker, place.slot);
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
            self.index.give(&id, slot);
            self.charge(&rank.at.job, -1);
        }
        // It may have been suspect for this rank.
        if !self.index.usable(&id) {
            self.refresh(&id);
        }
    }

    /// A job holds so many slots more, or fewer.
    pub(in crate::cluster) fn charge(&mut self, job: &JobId, more: i64) {
        let account = match self.accounts.get_mut(job) {
            Some(account) => account,
            None => {
                let Some(found) = self.jobs.get(job) else {
                    return;
                };
                let account = Account {
                    workspace: found.record.workspace.clone(),
                    device: at(found.document.job().resources.device),
                    priority: found.record.priority,
                    slots: 0,
                };
                self.accounts.entry(job.clone()).or_insert(account)
            }
        };
        let added = |slots: u32| u32::try_from((i64::from(slots) + more).max(0)).unwrap_or(0);
        account.slots = added(account.slots);
        let (device, priority) = (account.device, account.priority);
        self.queue.charge(&account.workspace, device, more);
        if account.slots == 0 {
            self.accounts.remove(job);
        }
        let held = self.held_by.entry(priority).or_default();
        *held = added(*held);
        if *held == 0 {
            self.held_by.remove(&priority);
        }
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
        self.index.insert(id, &host);
        for (slot, held) in (0u32..).zip(&worker.slots) {
            if held.is_some() {
                self.index.take(id, slot);
            }
        }
        for (job, kept) in &self.kept {
            for place in kept.places.iter().filter(|place| place.worker == *id) {
                self.index.keep(place, job);
            }
        }
        self.refresh_stores(id);
        self.refresh(id);
        self.workers_changed = true;
    }

    pub(in crate::cluster) fn forget_worker(&mut self, id: &WorkerId) {
        self.index.remove(id);
        self.queue.set_totals(self.index.totals());
        self.workers_changed = true;
    }

    /// Whether something may be placed on a worker may have changed.
    pub(in crate::cluster) fn refresh(&mut self, id: &WorkerId) {
        let usable = self.workers.get(id).is_some_and(|w| self.placeable(w));
        if usable != self.index.usable(id) {
            self.index.set_usable(id, usable);
            self.queue.set_totals(self.index.totals());
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
            self.suspect_at(worker) <= now && self.index.usable(id)
        };
        let silent = self.workers.iter().filter(silent);
        let silent: Vec<WorkerId> = silent.map(|(id, _)| id.clone()).collect();
        silent.iter().for_each(|id| self.refresh(id));
        for (id, worker) in &self.workers {
            for (url, proof) in &worker.stores {
                if matches!(proof, Proof::Failed { retry_ms, .. } if *retry_ms <= now) {
                    self.index.set_standing(id, url, Some(Standing::Unasked));
                }
            }
        }
    }

    /// Where a worker stands with every store that jobs use.
    pub(in crate::cluster) fn refresh_stores(&mut self, id: &WorkerId) {
        let urls: Vec<String> = self.store_users.keys().cloned().collect();
        urls.iter().for_each(|url| self.refresh_store(id, url));
    }

    pub(in crate::cluster) fn refresh_store(&mut self, id: &WorkerId, url: &str) {
        let now = self.now;
        let worker = self.workers.get(id);
        let standing = worker.and_then(|worker| match worker.stores.get(url) {
            Some(Proof::Proven) => Some(Standing::Proven),
            Some(Proof::Failed { retry_ms, .. }) if *retry_ms > now => None,
            Some(Proof::Asked { .. }) => None,
            Some(Proof::Failed { .. }) | None => Some(Standing::Unasked),
        });
        self.index.set_standing(id, url, standing);
        self.workers_changed = true;
    }

    /// A job uses its store from now on; the last one to leave closes it.
    pub(in crate::cluster) fn use_store(&mut self, url: &str) {
        if let Some(users) = self.store_users.get_mut(url) {
            *users += 1;
            return;
        }
        self.store_users.insert(url.to_owned(), 1);
        self.index.open(url);
        let all: Vec<WorkerId> = self.workers.keys().cloned().collect();
        all.iter().for_each(|id| self.refresh_store(id, url));
    }

    pub(in crate::cluster) fn leave_store(&mut self, url: &str) {
        if let Some(users) = self.store_users.get_mut(url) {
            *users -= 1;
            if *users == 0 {
                self.store_users.remove(url);
                self.index.close(url);
            }
        }
    }
}
