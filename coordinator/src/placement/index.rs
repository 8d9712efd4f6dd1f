//! Which slots are free, kept up to date: a slot taken or given back, a worker that comes, goes, becomes
//! usable or not, or proves a store costs its own slots times a logarithm, and so does a gang. Nothing
//! here grows with the number of workers.
//!
//! Knows nothing of trials: who holds a slot is not known here, only for which job it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainyard_common::ids::{JobId, WorkerId};
use trainyard_common::spec::Device;

use super::pool::{Pool, Room, Site};
use super::{Place, Request, Unplaced, at};

/// What a worker is, as far as placement goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Machine that it runs on.
    pub machine: String,
    pub cpu_kind: String,
    /// Each slot's device.
    pub devices: Vec<Device>,
}

/// Where a worker stands with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can use it.
    Proven,
    /// Nobody has asked it, or it may be asked again.
    Unasked,
}

#[derive(Debug)]
struct Seat {
    device: Device,
    taken: bool,
    kept: Option<JobId>,
}

impl Seat {
    fn free(&self) -> bool {
        !self.taken && self.kept.is_none()
    }
}

#[derive(Debug)]
struct Entry {
    site: Site,
    usable: bool,
    seats: Vec<Seat>,
    /// Free and kept for nobody, by device.
    free: [BTreeSet<u32>; 2],
    total: [usize; 2],
    stores: BTreeMap<Arc<str>, Standing>,
}

impl Entry {
    /// What it adds to a store's pool of a device.
    fn room(&self, store: &str, device: usize) -> Option<Room> {
        let proven = self.stores.get(store) == Some(&Standing::Proven);
        self.some_room(device).filter(|_| proven)
    }

    fn some_room(&self, device: usize) -> Option<Room> {
        let total = self.total[device];
        (self.usable && total > 0).then(|| Room {
            free: self.free[device].len(),
            total,
        })
    }

    fn unasked(&self, store: &str, device: usize) -> bool {
        let standing = self.stores.get(store);
        standing == Some(&Standing::Unasked) && self.some_room(device).is_some()
    }
}

/// A store that jobs use.
#[derive(Debug, Default)]
struct Store {
    pools: [Pool; 2],
    unasked: [BTreeSet<WorkerId>; 2],
}

/// All workers' slots.
#[derive(Debug, Default)]
pub struct Index {
    workers: BTreeMap<WorkerId, Entry>,
    stores: BTreeMap<Arc<str>, Store>,
    /// Slots of usable workers, by device.
    totals: [usize; 2],
}

impl Index {
    /// A worker that is new, or another than it was: nothing of it is taken, it is not usable yet and
    /// stands nowhere with any store.
    pub fn insert(&mut self, worker: &WorkerId, host: &Host) {
        self.remove(worker);
        let seats: Vec<Seat> = host.devices.iter().map(|device| seat(*device)).collect();
        let mut free = [BTreeSet::new(), BTreeSet::new()];
        for (slot, seat) in (0u32..).zip(&seats) {
            free[at(seat.device)].insert(slot);
        }
        let entry = Entry {
            site: Site {
                machine: Arc::from(host.machine.as_str()),
                kind: Arc::from(host.cpu_kind.as_str()),
            },
            usable: false,
            total: [free[0].len(), free[1].len()],
            free,
            seats,
            stores: BTreeMap::new(),
        };
        self.workers.insert(worker.clone(), entry);
    }

    /// Forgets a worker, and what was kept there.
    pub fn remove(&mut self, worker: &WorkerId) {
        self.set_usable(worker, false);
        self.workers.remove(worker);
    }

    /// Whether something may be placed there.
    pub fn set_usable(&mut self, worker: &WorkerId, usable: bool) {
        let known = self.workers.get(worker);
        let Some(known) = known.filter(|known| known.usable != usable) else {
            return;
        };
        for (all, own) in self.totals.iter_mut().zip(known.total) {
            *all = if usable { *all + own } else { *all - own };
        }
        self.change(worker, None, &[0, 1], |entry| entry.usable = usable);
    }

    pub fn usable(&self, worker: &WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|entry| entry.usable)
    }

    /// Where a worker stands with an open store; `None`: it was asked, or could not use it.
    pub fn set_standing(&mut self, worker: &WorkerId, store: &str, standing: Option<Standing>) {
        let Some((name, _)) = self.stores.get_key_value(store) else {
            return;
        };
        let name = Arc::clone(name);
        self.change(worker, Some(&name), &[0, 1], |entry| {
            match standing {
                Some(standing) => entry.stores.insert(Arc::clone(&name), standing),
                None => entry.stores.remove(&name),
            };
        });
    }

    /// Jobs use this store from now on.
    pub fn open(&mut self, store: &str) {
        if !self.stores.contains_key(store) {
            self.stores.insert(Arc::from(store), Store::default());
        }
    }

    /// No job uses this store any more.
    pub fn close(&mut self, store: &str) {
        self.stores.remove(store);
        for entry in self.workers.values_mut() {
            entry.stores.remove(store);
        }
    }

    pub fn take(&mut self, worker: &WorkerId, slot: u32) {
        self.change_seat(worker, slot, |seat| seat.taken = true);
    }

    pub fn give(&mut self, worker: &WorkerId, slot: u32) {
        self.change_seat(worker, slot, |seat| seat.taken = false);
    }

    /// Keeps a slot, free or not, for a job.
    pub fn keep(&mut self, place: &Place, job: &JobId) {
        self.change_seat(&place.worker, place.slot, |seat| {
            seat.kept = Some(job.clone());
        });
    }

    /// Keeps it no longer.
    pub fn let_go(&mut self, place: &Place) {
        self.change_seat(&place.worker, place.slot, |seat| seat.kept = None);
    }

    /// The job for which a slot is kept.
    pub fn kept(&self, worker: &WorkerId, slot: u32) -> Option<&JobId> {
        let entry = self.workers.get(worker)?;
        entry.seats.get(slot as usize)?.kept.as_ref()
    }

    /// Free slots of a worker that are kept for somebody.
    pub fn kept_free(&self, worker: &WorkerId) -> usize {
        let entry = self.workers.get(worker);
        let seats = entry.into_iter().flat_map(|entry| &entry.seats);
        seats.filter(|s| !s.taken && s.kept.is_some()).count()
    }

    #[cfg(test)]
    pub(crate) fn taken(&self, place: &Place) -> Option<bool> {
        let entry = self.workers.get(&place.worker)?;
        Some(entry.seats.get(place.slot as usize)?.taken)
    }

    /// Whether a worker may be used for a store.
    pub fn serves(&self, worker: &WorkerId, store: &str) -> bool {
        let entry = self.workers.get(worker);
        entry.is_some_and(|e| e.usable && e.stores.get(store) == Some(&Standing::Proven))
    }

    /// Slots of usable workers, by device.
    pub fn totals(&self) -> [usize; 2] {
        self.totals
    }

    /// Usable workers with such a device that are still to prove the store.
    pub fn unasked(&self, store: &str, device: Device) -> impl Iterator<Item = &WorkerId> {
        let store = self.stores.get(store);
        store.into_iter().flat_map(move |s| &s.unasked[at(device)])
    }

    /// Slots for all ranks, in the order of ranks, on workers that have proven the store. Nothing is taken
    /// yet.
    ///
    /// # Errors
    /// `Busy` or `TooLarge`.
    pub fn place(&self, store: &str, request: Request) -> Result<Vec<Place>, Unplaced> {
        let (ranks, device) = (request.ranks.max(1) as usize, at(request.device));
        let pool = self.stores.get(store).map(|store| &store.pools[device]);
        let Some(layout) = pool.and_then(|pool| pool.layout(ranks)) else {
            let largest = pool.map_or(0, Pool::largest);
            return Err(if largest >= ranks {
                Unplaced::Busy
            } else {
                Unplaced::TooLarge { largest }
            });
        };
        let places = layout.into_iter().flat_map(|(worker, count)| {
            let entry = self.workers.get(&worker);
            let slots = entry.into_iter().flat_map(|entry| &entry.free[device]);
            let slots: Vec<u32> = slots.copied().take(count).collect();
            slots.into_iter().map(move |slot| Place {
                worker: worker.clone(),
                slot,
            })
        });
        Ok(places.collect())
    }

    fn change_seat(&mut self, worker: &WorkerId, slot: u32, change: impl FnOnce(&mut Seat)) {
        let seats = self.workers.get(worker).map(|entry| &entry.seats);
        let Some(seat) = seats.and_then(|seats| seats.get(slot as usize)) else {
            return;
        };
        let device = at(seat.device);
        self.change(worker, None, &[device], |entry| {
            let Some(seat) = entry.seats.get_mut(slot as usize) else {
                return;
            };
            change(seat);
            match seat.free() {
                true => entry.free[device].insert(slot),
                false => entry.free[device].remove(&slot),
            };
        });
    }

    /// Changes an entry, and with it the pools of these devices in which it stands: of one store, or of all.
    fn change(
        &mut self,
        worker: &WorkerId,
        store: Option<&Arc<str>>,
        devices: &[usize],
        change: impl FnOnce(&mut Entry),
    ) {
        let Some(entry) = self.workers.get_mut(worker) else {
            return;
        };
        let names: Vec<Arc<str>> = match store {
            Some(store) => vec![Arc::clone(store)],
            None => entry.stores.keys().cloned().collect(),
        };
        let mut before = Vec::with_capacity(names.len() * devices.len());
        for name in &names {
            for device in devices {
                let room = entry.room(name, *device);
                let unasked = entry.unasked(name, *device);
                before.push((name, *device, room, unasked));
            }
        }
        change(entry);
        for (name, device, room, unasked) in before {
            let Some(store) = self.stores.get_mut(name) else {
                continue;
            };
            let after = entry.room(name, device);
            store.pools[device].change(worker, &entry.site, room, after);
            match entry.unasked(name, device) {
                true if !unasked => store.unasked[device].insert(worker.clone()),
                false if unasked => store.unasked[device].remove(worker),
                _ => false,
            };
        }
    }
}

fn seat(device: Device) -> Seat {
    Seat {
        device,
        taken: false,
        kept: None,
    }
}
