//! The index, the accounts and what is kept, against what the workers say.

use std::collections::BTreeMap;

use crate::cluster::Machine;
use crate::cluster::model::Proof;
use crate::placement::{Needs, Place, at};

/// What is kept up to date change by change is what a look at everything gives.
pub(super) fn check(machine: &Machine) {
    let mut totals = [0, 0];
    let mut held: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let mut by_priority: BTreeMap<i32, u32> = BTreeMap::new();
    for (id, worker) in machine.workers.iter() {
        assert_eq!(
            machine.slots.index().usable(id),
            machine.placeable(worker),
            "{id}"
        );
        for (slot, rank) in (0u32..).zip(&worker.slots) {
            let place = Place {
                worker: id.clone(),
                slot,
            };
            if worker.session.is_some() {
                let taken = machine.slots.index().taken(&place);
                assert_eq!(taken, Some(rank.is_some()), "{place:?}");
            }
            if machine.slots.index().usable(id) {
                totals[at(worker.device(slot as usize))] += 1;
            }
            let Some(rank) = rank else { continue };
            let account = machine.slots.account(&rank.at.job).unwrap();
            let device = at(machine.jobs[&rank.at.job].document.job().resources.device);
            held.entry(account.workspace.clone()).or_default()[device] += 1;
            *by_priority.entry(account.priority).or_default() += 1;
        }
        for needs in machine.slots.needs() {
            let proven = worker.stores.get(&needs.store) == Some(&Proof::Proven);
            let runs = worker.info.programs || !needs.programs;
            let usable = machine.slots.index().usable(id);
            assert_eq!(
                machine.slots.index().serves(id, needs),
                proven && runs && usable,
                "{id}"
            );
        }
    }
    assert_eq!(machine.slots.index().totals(), totals);
    assert_eq!(*machine.slots.held_by(), by_priority);
    for workspace in machine.slots.queue().workspaces() {
        let expected = held.remove(workspace).unwrap_or_default();
        assert_eq!(
            machine.slots.queue().used(workspace),
            expected,
            "{workspace}"
        );
    }
    assert!(held.is_empty(), "{held:?}");
    for (job, kept) in machine.slots.all_kept() {
        assert!(
            machine.slots.queue().get(job).is_some(),
            "{job} waits for nothing"
        );
        for place in &kept.places {
            let owner = machine.slots.index().kept(&place.worker, place.slot);
            assert_eq!(owner, Some(job), "{place:?}");
        }
    }
    let active = machine.jobs.active();
    let mut users: BTreeMap<Needs, usize> = BTreeMap::new();
    for job in active {
        *users.entry(job.needs()).or_default() += 1;
    }
    assert_eq!(*machine.slots.users(), users);
}
