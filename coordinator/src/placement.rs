//! Which slots a trial gets: a pure function of the request and the workers' free slots.
//!
//! A gang gets all its ranks or none. Its ranks lie near each other: in one worker if one has room
//! (the fullest that has), else in the workers of one host, else over the fewest workers. Ranks of
//! one gang always run on one kind of processor, because results are equal in every bit only there.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use trainyard_common::ids::WorkerId;
use trainyard_common::spec::Device;

/// A worker as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub worker: WorkerId,
    /// Machine that it runs on.
    pub machine: String,
    pub cpu_kind: String,
    /// Each slot: its device, and whether it is free.
    pub slots: Vec<(Device, bool)>,
}

impl Host {
    fn free(&self, device: Device) -> impl Iterator<Item = u32> {
        (0u32..)
            .zip(&self.slots)
            .filter(move |(_, slot)| **slot == (device, true))
            .map(|(index, _)| index)
    }

    fn total(&self, device: Device) -> usize {
        self.slots.iter().filter(|slot| slot.0 == device).count()
    }
}

/// What is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// At least 1; one slot each.
    pub ranks: u32,
    pub device: Device,
}

/// One rank's slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub worker: WorkerId,
    pub slot: u32,
}

/// Why nothing was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// It would fit if every slot were free.
    Busy,
    /// It does not fit these workers at all; the most slots that one kind of processor has.
    TooLarge { largest: usize },
}

/// Slots for all ranks, in the order of ranks. Only `eligible` hosts are looked at.
///
/// # Errors
/// `Busy` or `TooLarge`; nothing is placed then.
pub fn place(
    request: Request,
    hosts: &[Host],
    eligible: impl Fn(&Host) -> bool,
) -> Result<Vec<Place>, Unplaced> {
    let ranks = request.ranks as usize;
    let mut kinds: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in hosts.iter().filter(|host| eligible(host)) {
        kinds.entry(&host.cpu_kind).or_default().push(host);
    }
    let placed = kinds
        .values()
        .filter_map(|hosts| within_kind(request, hosts))
        // Fewest workers first; ties to the first kind.
        .min_by_key(|places| distinct_workers(places));
    if let Some(places) = placed {
        return Ok(places);
    }
    let largest = kinds
        .values()
        .map(|hosts| hosts.iter().map(|host| host.total(request.device)).sum())
        .max()
        .unwrap_or(0);
    Err(if largest >= ranks {
        Unplaced::Busy
    } else {
        Unplaced::TooLarge { largest }
    })
}

fn distinct_workers(places: &[Place]) -> usize {
    let mut workers: Vec<_> = places.iter().map(|place| &place.worker).collect();
    workers.dedup();
    workers.len()
}

fn within_kind(request: Request, hosts: &[&Host]) -> Option<Vec<Place>> {
    let ranks = request.ranks as usize;
    let mut free: Vec<(usize, &Host)> = hosts
        .iter()
        .map(|host| (host.free(request.device).count(), *host))
        .filter(|(count, _)| *count > 0)
        .collect();
    if free.iter().map(|(count, _)| count).sum::<usize>() < ranks {
        return None;
    }
    let tightest = free
        .iter()
        .filter(|(count, _)| *count >= ranks)
        .min_by_key(|(count, host)| (*count, &host.worker));
    if let Some((_, host)) = tightest {
        return Some(take(request, [*host]));
    }
    let mut machines: BTreeMap<&str, usize> = BTreeMap::new();
    for (count, host) in &free {
        *machines.entry(&host.machine).or_default() += count;
    }
    let on_machine = |host: &Host| machines.get(host.machine.as_str()).copied().unwrap_or(0);
    // The tightest machine that has room for all, else the roomiest ones first.
    let home = machines
        .iter()
        .filter(|(_, count)| **count >= ranks)
        .min_by_key(|(name, count)| (**count, **name))
        .map(|(name, _)| *name);
    free.sort_by_key(|(count, host)| {
        (
            home.is_some_and(|home| host.machine != home),
            Reverse(on_machine(host)),
            host.machine.as_str(),
            Reverse(*count),
            &host.worker,
        )
    });
    Some(take(request, free.into_iter().map(|(_, host)| host)))
}

fn take<'a>(request: Request, hosts: impl IntoIterator<Item = &'a Host>) -> Vec<Place> {
    hosts
        .into_iter()
        .flat_map(|host| {
            host.free(request.device).map(|slot| Place {
                worker: host.worker.clone(),
                slot,
            })
        })
        .take(request.ranks as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_common::rng::Key;

    fn host(worker: &str, machine: &str, kind: &str, free: &[bool]) -> Host {
        Host {
            worker: worker.into(),
            machine: machine.to_owned(),
            cpu_kind: kind.to_owned(),
            slots: free.iter().map(|free| (Device::Cpu, *free)).collect(),
        }
    }

    fn gang(ranks: u32) -> Request {
        Request {
            ranks,
            device: Device::Cpu,
        }
    }

    fn shown(result: Result<Vec<Place>, Unplaced>) -> String {
        match result {
            Ok(places) => {
                let places: Vec<_> = places
                    .iter()
                    .map(|place| format!("{}{}", place.worker, place.slot))
                    .collect();
                places.join(" ")
            }
            Err(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn packs_gangs() {
        let (yes, no) = (true, false);
        let hosts = [
            host("a", "m", "k", &[yes, no, yes, yes]),
            host("b", "m", "k", &[yes, yes]),
            host("c", "n", "k", &[yes]),
            host("d", "n", "other", &[yes, yes, yes, yes, no]),
        ];
        for (ranks, expected) in [
            (1, "c0"),
            (2, "b0 b1"),
            (3, "a0 a2 a3"),
            (4, "d0 d1 d2 d3"),
            (5, "a0 a2 a3 b0 b1"),
            (6, "a0 a2 a3 b0 b1 c0"),
            (7, "Busy"),
            (8, "TooLarge { largest: 7 }"),
        ] {
            assert_eq!(
                shown(place(gang(ranks), &hosts, |_| true)),
                expected,
                "{ranks}"
            );
        }
        let only_c = |host: &Host| host.worker.as_str() == "c";
        assert_eq!(shown(place(gang(1), &hosts, only_c)), "c0");
        assert_eq!(
            shown(place(gang(2), &hosts, only_c)),
            "TooLarge { largest: 1 }"
        );
        let cuda = Request {
            ranks: 1,
            device: Device::Cuda,
        };
        assert_eq!(
            shown(place(cuda, &hosts, |_| true)),
            "TooLarge { largest: 0 }"
        );
    }

    #[test]
    fn all_or_none_on_free_slots_of_one_kind() {
        for seed in 0..500 {
            let key = Key::new(seed);
            let hosts: Vec<Host> = (0..1 + key.below(0, 6))
                .map(|h| {
                    let key = key.with(h);
                    let free: Vec<bool> = (0..key.below(1, 5))
                        .map(|s| key.with(9).below(s, 2) == 0)
                        .collect();
                    let machine = format!("m{}", key.below(2, 2));
                    host(
                        &format!("w{h}"),
                        &machine,
                        ["x", "y"][key.below(3, 2) as usize],
                        &free,
                    )
                })
                .collect();
            let request = gang(1 + key.below(1, 6) as u32);
            let room = |kind: &str| -> usize {
                let hosts = hosts.iter().filter(|host| host.cpu_kind == kind);
                hosts.map(|host| host.free(Device::Cpu).count()).sum()
            };
            let fits = room("x").max(room("y")) >= request.ranks as usize;
            let result = place(request, &hosts, |_| true);
            assert_eq!(result.is_ok(), fits, "seed {seed}");
            let Ok(places) = result else { continue };
            assert_eq!(places.len(), request.ranks as usize, "seed {seed}");
            let find = |place: &Place| hosts.iter().find(|h| h.worker == place.worker).unwrap();
            let kind = &find(&places[0]).cpu_kind;
            for (index, place) in places.iter().enumerate() {
                assert!(find(place).slots[place.slot as usize].1, "seed {seed}");
                assert_eq!(&find(place).cpu_kind, kind, "seed {seed}");
                assert!(!places[..index].contains(place), "seed {seed}");
            }
        }
    }
}
