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
use super::{Needs, Place, Request, Unplaced, at};

/// What a worker is, as far as placement goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Machine that it runs on.
    pub machine: String,
    pub cpu_kind: String,
    /// Each slot's device.
    pub devices: Vec<Device>,
}

/// Where a worker stands with what jobs need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has proven the store.
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
    standings: BTreeMap<Arc<Needs>, Standing>,
}

impl Entry {
    /// What it adds to the pool of a device for who needs this.
    fn room(&self, needs: &Needs, device: usize) -> Option<Room> {
        let proven = self.standings.get(needs) == Some(&Standing::Proven);
        self.some_room(device).filter(|_| proven)
    }

    fn some_room(&self, device: usize) -> Option<Room> {
        let total = self.total[device];
        (self.usable && total > 0).then(|| Room {
            free: self.free[device].len(),
            total,
        })
    }

    fn unasked(&self, needs: &Needs, device: usize) -> bool {
        let standing = self.standings.get(needs);
        standing == Some(&Standing::Unasked) && self.some_room(device).is_some()
    }
}

/// Those who serve jobs of the same needs.
#[derive(Debug, Default)]
struct Servers {
    pools: [Pool; 2],
    unasked: [BTreeSet<WorkerId>; 2],
}

/// All workers' slots.
#[derive(Debug, Default)]
pub struct Index {
    workers: BTreeMap<WorkerId, Entry>,
    servers: BTreeMap<Arc<Needs>, Servers>,
    /// Slots of usable workers, by device.
    totals: [usize; 2],
}

impl Index {
    /// A worker that is new, or another than it was: nothing of it is taken, it is not usable yet and
    /// serves nobody.
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
            standings: BTreeMap::new(),
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

    /// Where a worker stands with open needs; `None`: it was asked for the store, could not use it, or does not
    /// run what they are for.
    pub fn set_standing(&mut self, worker: &WorkerId, needs: &Needs, standing: Option<Standing>) {
        let Some((known, _)) = self.servers.get_key_value(needs) else {
            return;
        };
        let known = Arc::clone(known);
        self.change(worker, Some(&known), &[0, 1], |entry| {
            match standing {
                Some(standing) => entry.standings.insert(Arc::clone(&known), standing),
                None => entry.standings.remove(&known),
            };
        });
    }

    /// Jobs need this from now on.
    pub fn open(&mut self, needs: &Needs) {
        if !self.servers.contains_key(needs) {
            let servers = Servers::default();
            self.servers.insert(Arc::new(needs.clone()), servers);
        }
    }

    /// No job needs this any more.
    pub fn close(&mut self, needs: &Needs) {
        self.servers.remove(needs);
        for entry in self.workers.values_mut() {
            entry.standings.remove(needs);
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

    /// Whether a worker may be used by who needs this.
    pub fn serves(&self, worker: &WorkerId, needs: &Needs) -> bool {
        let entry = self.workers.get(worker);
        entry.is_some_and(|e| e.usable && e.standings.get(needs) == Some(&Standing::Proven))
    }

    /// Slots of usable workers, by device.
    pub fn totals(&self) -> [usize; 2] {
        self.totals
    }

    /// Usable workers with such a device that are still to prove the store.
    pub fn unasked(&self, needs: &Needs, device: Device) -> impl Iterator<Item = &WorkerId> {
        let servers = self.servers.get(needs).into_iter();
        servers.flat_map(move |servers| &servers.unasked[at(device)])
    }

    /// Slots for all ranks, in the order of ranks, on workers that serve these needs. Nothing is taken yet.
    ///
    /// # Errors
    /// `Busy` or `TooLarge`.
    pub fn place(&self, needs: &Needs, request: Request) -> Result<Vec<Place>, Unplaced> {
        let (ranks, device) = (request.ranks.max(1) as usize, at(request.device));
        let servers = self.servers.get(needs);
        let pool = servers.map(|servers| &servers.pools[device]);
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

    /// Changes an entry, and with it the pools of these devices in which it stands: for some needs, or for all.
    fn change(
        &mut self,
        worker: &WorkerId,
        needs: Option<&Arc<Needs>>,
        devices: &[usize],
        change: impl FnOnce(&mut Entry),
    ) {
        let Some(entry) = self.workers.get_mut(worker) else {
            return;
        };
        let all: Vec<Arc<Needs>> = match needs {
            Some(needs) => vec![Arc::clone(needs)],
            None => entry.standings.keys().cloned().collect(),
        };
        let mut before = Vec::with_capacity(all.len() * devices.len());
        for needs in &all {
            for device in devices {
                let room = entry.room(needs, *device);
                let unasked = entry.unasked(needs, *device);
                before.push((needs, *device, room, unasked));
            }
        }
        change(entry);
        for (needs, device, room, unasked) in before {
            let Some(servers) = self.servers.get_mut(needs) else {
                continue;
            };
            let after = entry.room(needs, device);
            servers.pools[device].change(worker, &entry.site, room, after);
            match entry.unasked(needs, device) {
                true if !unasked => servers.unasked[device].insert(worker.clone()),
                false if unasked => servers.unasked[device].remove(worker),
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
