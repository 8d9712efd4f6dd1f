//! Slots: which are free, who wants them, who holds them, what jobs need besides, and which are kept for whom.
//!
//! Owns that the parts agree: the queue's totals are the index's, what a job holds is charged to its workspace
//! and its priority, what somebody needs is open, and what is kept for a job is kept in the index,
//! too, and asked for by the job itself. Whose turn it is and who must leave is not known here.

mod keeping;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use trainyard_common::ids::{JobId, WorkerId};

use super::kept::Kept;
use crate::placement::Needs;
use crate::placement::index::{Host, Index, Standing};
use crate::placement::queue::Queue;

/// What a job holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Account {
    pub(in crate::cluster) workspace: String,
    pub(in crate::cluster) device: usize,
    pub(in crate::cluster) priority: i32,
    pub(in crate::cluster) slots: u32,
}

#[derive(Default)]
pub(in crate::cluster) struct Slots {
    /// Which are free.
    index: Index,
    /// Which jobs want some, in the order in which they get them.
    queue: Queue,
    /// What jobs hold.
    accounts: BTreeMap<JobId, Account>,
    /// How many are held by jobs of each priority.
    held_by: BTreeMap<i32, u32>,
    /// How many active jobs need the same.
    users: BTreeMap<Needs, usize>,
    /// Which are kept for whom.
    kept: BTreeMap<JobId, Kept>,
}

impl Slots {
    pub(in crate::cluster) fn index(&self) -> &Index {
        &self.index
    }

    pub(in crate::cluster) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// To put jobs in line, to take them out and to set a workspace's terms.
    pub(in crate::cluster) fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// A worker that is new, or another than it was, and which of its slots are held.
    pub(in crate::cluster) fn insert(
        &mut self,
        worker: &WorkerId,
        host: &Host,
        held: impl IntoIterator<Item = u32>,
    ) {
        self.index.insert(worker, host);
        for slot in held {
            self.index.take(worker, slot);
        }
        for (job, kept) in &self.kept {
            for place in kept.places.iter().filter(|place| place.worker == *worker) {
                self.index.keep(place, job);
            }
        }
        self.queue.set_totals(self.index.totals());
    }

    pub(in crate::cluster) fn remove(&mut self, worker: &WorkerId) {
        self.index.remove(worker);
        self.queue.set_totals(self.index.totals());
    }

    /// Whether something may be placed on a worker. True: that is new.
    pub(in crate::cluster) fn set_usable(&mut self, worker: &WorkerId, usable: bool) -> bool {
        if usable == self.index.usable(worker) {
            return false;
        }
        self.index.set_usable(worker, usable);
        self.queue.set_totals(self.index.totals());
        true
    }

    /// Where a worker stands with what jobs need.
    pub(in crate::cluster) fn set_standing(
        &mut self,
        worker: &WorkerId,
        needs: &Needs,
        standing: Option<Standing>,
    ) {
        self.index.set_standing(worker, needs, standing);
    }

    pub(in crate::cluster) fn take(&mut self, worker: &WorkerId, slot: u32) {
        self.index.take(worker, slot);
    }

    pub(in crate::cluster) fn give(&mut self, worker: &WorkerId, slot: u32) {
        self.index.give(worker, slot);
    }

    /// Whether a job holds any.
    pub(in crate::cluster) fn holds(&self, job: &JobId) -> bool {
        self.accounts.contains_key(job)
    }

    /// The lowest priority of those that hold some.
    pub(in crate::cluster) fn lowest_priority(&self) -> Option<i32> {
        self.held_by.keys().next().copied()
    }

    /// A job holds so many more, or fewer. `open`: its account, if it has none yet.
    pub(in crate::cluster) fn charge(
        &mut self,
        job: &JobId,
        more: i64,
        open: impl FnOnce() -> Option<Account>,
    ) {
        let account = match self.accounts.get_mut(job) {
            Some(account) => account,
            None => {
                let Some(account) = open() else { return };
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

    /// One more job needs this. True: it is the first.
    pub(in crate::cluster) fn open(&mut self, needs: &Needs) -> bool {
        if let Some(users) = self.users.get_mut(needs) {
            *users += 1;
            return false;
        }
        self.users.insert(needs.clone(), 1);
        self.index.open(needs);
        true
    }

    /// One fewer: the last one to leave closes it.
    pub(in crate::cluster) fn close(&mut self, needs: &Needs) {
        if let Some(users) = self.users.get_mut(needs) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(needs);
                self.index.close(needs);
            }
        }
    }

    /// What jobs need.
    pub(in crate::cluster) fn needs(&self) -> impl Iterator<Item = &Needs> {
        self.users.keys()
    }

    #[cfg(test)]
    pub(in crate::cluster) fn account(&self, job: &JobId) -> Option<&Account> {
        self.accounts.get(job)
    }

    #[cfg(test)]
    pub(in crate::cluster) fn held_by(&self) -> &BTreeMap<i32, u32> {
        &self.held_by
    }

    #[cfg(test)]
    pub(in crate::cluster) fn users(&self) -> &BTreeMap<Needs, usize> {
        &self.users
    }
}
