//! The workers that may be used for the same needs with one kind of device, in the orders in which gangs
//! look for room. Knows counts, not slots.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainyard_common::ids::WorkerId;

/// What a worker has for the pool's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Room {
    pub(super) free: usize,
    pub(super) total: usize,
}

/// Where a worker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) machine: Arc<str>,
    pub(super) kind: Arc<str>,
}

/// Workers and how many slots a gang takes of each, in the order of its ranks.
pub(super) type Layout = Vec<(WorkerId, usize)>;

/// By kind of processor.
#[derive(Debug, Default)]
pub(super) struct Pool {
    kinds: BTreeMap<Arc<str>, Kind>,
}

/// Workers without a free slot count in `total` alone.
#[derive(Debug, Default)]
struct Kind {
    free: usize,
    total: usize,
    /// Tightest first.
    workers: BTreeSet<(usize, WorkerId)>,
    machines: BTreeMap<Arc<str>, Machine>,
    /// Roomiest first.
    by_room: BTreeSet<(Reverse<usize>, Arc<str>)>,
}

#[derive(Debug, Default)]
struct Machine {
    free: usize,
    /// Roomiest first.
    workers: BTreeSet<(Reverse<usize>, WorkerId)>,
}

impl Pool {
    /// A worker's room has changed; `None`: it is not in the pool.
    pub(super) fn change(
        &mut self,
        worker: &WorkerId,
        site: &Site,
        before: Option<Room>,
        after: Option<Room>,
    ) {
        if before == after {
            return;
        }
        let kind = self.kinds.entry(Arc::clone(&site.kind)).or_default();
        let (was, is) = (before.unwrap_or_default(), after.unwrap_or_default());
        kind.total = kind.total + is.total - was.total;
        kind.set_free(worker, &site.machine, was.free, is.free);
        if kind.total == 0 {
            self.kinds.remove(&site.kind);
        }
    }

    /// Where a gang of so many ranks goes: of the kinds that have room, the one in which it is spread
    /// over the fewest workers.
    pub(super) fn layout(&self, ranks: usize) -> Option<Layout> {
        let fitting = self.kinds.values().filter_map(|kind| kind.layout(ranks));
        // Of equal ones the first.
        fitting.min_by_key(Vec::len)
    }

    /// The most slots that one kind of processor has, free or not.
    pub(super) fn largest(&self) -> usize {
        let totals = self.kinds.values().map(|kind| kind.total);
        totals.max().unwrap_or(0)
    }
}

impl Kind {
    fn set_free(&mut self, worker: &WorkerId, machine: &Arc<str>, was: usize, is: usize) {
        if was == is {
            return;
        }
        self.free = self.free + is - was;
        let host = self.machines.entry(Arc::clone(machine)).or_default();
        let before = host.free;
        host.free = before + is - was;
        if was > 0 {
            let key = (was, worker.clone());
            self.workers.remove(&key);
            host.workers.remove(&(Reverse(key.0), key.1));
        }
        if is > 0 {
            self.workers.insert((is, worker.clone()));
            host.workers.insert((Reverse(is), worker.clone()));
        }
        let after = host.free;
        if before > 0 {
            self.by_room.remove(&(Reverse(before), Arc::clone(machine)));
        }
        if after > 0 {
            self.by_room.insert((Reverse(after), Arc::clone(machine)));
        } else {
            self.machines.remove(machine);
        }
    }

    fn layout(&self, ranks: usize) -> Option<Layout> {
        if self.free < ranks {
            return None;
        }
        let least = (ranks, WorkerId::default());
        if let Some((_, worker)) = self.workers.range(least..).next() {
            return Some(vec![(worker.clone(), ranks)]);
        }
        let home = self.home(ranks).and_then(|name| self.machines.get(name));
        let rooms: Box<dyn Iterator<Item = &Machine>> = match home {
            Some(home) => Box::new(std::iter::once(home)),
            None => {
                let names = self.by_room.iter().map(|(_, name)| name);
                Box::new(names.filter_map(|name| self.machines.get(name)))
            }
        };
        let mut left = ranks;
        let mut layout = Vec::new();
        for (Reverse(free), worker) in rooms.flat_map(|machine| &machine.workers) {
            let taken = left.min(*free);
            layout.push((worker.clone(), taken));
            left -= taken;
            if left == 0 {
                break;
            }
        }
        Some(layout)
    }

    /// The tightest machine that has room for all; of equal ones the first by name.
    fn home(&self, ranks: usize) -> Option<&Arc<str>> {
        let roomy = ..(Reverse(ranks - 1), Arc::from(""));
        let (tightest, _) = self.by_room.range(roomy).next_back()?;
        let first = (*tightest, Arc::from(""));
        self.by_room.range(first..).next().map(|(_, name)| name)
    }
}
