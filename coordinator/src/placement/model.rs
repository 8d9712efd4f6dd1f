//! The index against a plain model that looks at every worker each time, and the queue against one that
//! sorts every job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, WorkerId};
use trainyard_common::rng::Key;
use trainyard_common::spec::Device;

use super::index::{Host, Index, Standing};
use super::queue::{Ask, Queue, Queued, Share, Terms};
use super::{Needs, Place, Request, Unplaced};

/// One store with and without programs, and another.
const NEEDS: [(&str, bool); 3] = [
    ("file:///a", false),
    ("file:///a", true),
    ("file:///b", true),
];

type Known = (&'static str, bool);

fn needs((store, programs): Known) -> Needs {
    Needs {
        store: store.to_owned(),
        programs,
    }
}

struct Worker {
    host: Host,
    usable: bool,
    taken: Vec<bool>,
    kept: Vec<bool>,
    standings: BTreeMap<Known, Standing>,
}

impl Worker {
    fn free(&self, device: Device) -> Vec<u32> {
        let slots = (0u32..).zip(&self.host.devices);
        let free = slots.filter(|(slot, known)| {
            let slot = *slot as usize;
            **known == device && !self.taken[slot] && !self.kept[slot]
        });
        free.map(|(slot, _)| slot).collect()
    }

    fn total(&self, device: Device) -> usize {
        self.host.devices.iter().filter(|d| **d == device).count()
    }
}

type Workers = BTreeMap<WorkerId, Worker>;

/// Where a gang goes, by the rules as they are told, without any thought of what it costs.
fn place(workers: &Workers, needs: Known, request: Request) -> Result<Vec<Place>, Unplaced> {
    let ranks = request.ranks as usize;
    let mut kinds: BTreeMap<&str, Vec<(&WorkerId, &Worker)>> = BTreeMap::new();
    for (id, worker) in workers {
        if worker.usable && worker.standings.get(&needs) == Some(&Standing::Proven) {
            let kind = kinds.entry(&worker.host.cpu_kind).or_default();
            kind.push((id, worker));
        }
    }
    let fitting = kinds.values().filter_map(|kind| within(kind, request));
    let spread = |places: &Vec<Place>| {
        let workers: BTreeSet<_> = places.iter().map(|place| &place.worker).collect();
        workers.len()
    };
    if let Some(best) = fitting.min_by_key(spread) {
        return Ok(best);
    }
    let total = |kind: &Vec<(&WorkerId, &Worker)>| -> usize {
        kind.iter().map(|(_, w)| w.total(request.device)).sum()
    };
    let largest = kinds.values().map(total).max().unwrap_or(0);
    Err(match largest >= ranks {
        true => Unplaced::Busy,
        false => Unplaced::TooLarge { largest },
    })
}

fn within(kind: &[(&WorkerId, &Worker)], request: Request) -> Option<Vec<Place>> {
    let ranks = request.ranks as usize;
    let free = |worker: &Worker| worker.free(request.device).len();
    if kind.iter().map(|(_, worker)| free(worker)).sum::<usize>() < ranks {
        return None;
    }
    let roomy = kind.iter().filter(|(_, worker)| free(worker) >= ranks);
    if let Some((id, worker)) = roomy.min_by_key(|(id, worker)| (free(worker), *id)) {
        return Some(take(&[(*id, *worker)], request));
    }
    let on = |machine: &str| -> usize {
        let there = kind.iter().filter(|(_, w)| w.host.machine == machine);
        there.map(|(_, worker)| free(worker)).sum()
    };
    let machines: BTreeSet<&str> = kind.iter().map(|(_, w)| w.host.machine.as_str()).collect();
    let roomy = machines.iter().filter(|machine| on(machine) >= ranks);
    let home = roomy.min_by_key(|machine| (on(machine), **machine));
    let mut order: Vec<_> = kind.to_vec();
    order.sort_by_key(|(id, worker)| {
        let machine = worker.host.machine.as_str();
        let away = home.is_some_and(|home| machine != *home);
        (
            away,
            Reverse(on(machine)),
            machine,
            Reverse(free(worker)),
            *id,
        )
    });
    Some(take(&order, request))
}

fn take(workers: &[(&WorkerId, &Worker)], request: Request) -> Vec<Place> {
    let slots = workers.iter().flat_map(|(id, worker)| {
        let free = worker.free(request.device).into_iter();
        free.map(|slot| Place {
            worker: (*id).clone(),
            slot,
        })
    });
    slots.take(request.ranks as usize).collect()
}

/// Draws in order.
struct Draws(Key, u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.1 += 1;
        self.0.below(self.1, bound)
    }
}

struct World {
    draws: Draws,
    index: Index,
    workers: Workers,
    open: BTreeSet<Known>,
}

impl World {
    fn change(&mut self) {
        let name = format!("w{}", self.draws.below(6));
        let id: WorkerId = name.as_str().into();
        let known = NEEDS[self.draws.below(3) as usize];
        match self.draws.below(10) {
            0 => self.join(id),
            1 => {
                if self.draws.below(4) == 0 {
                    self.index.remove(&id);
                    self.workers.remove(&id);
                }
            }
            2 => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.usable = self.draws.below(4) > 0;
                    self.index.set_usable(&id, worker.usable);
                }
            }
            3 if self.draws.below(4) == 0 => self.open_or_close(known),
            3 | 4 => {
                let standing = match self.draws.below(4) {
                    0 => None,
                    1 => Some(Standing::Unasked),
                    _ => Some(Standing::Proven),
                };
                self.index.set_standing(&id, &needs(known), standing);
                if let Some(worker) = self
                    .workers
                    .get_mut(&id)
                    .filter(|_| self.open.contains(&known))
                {
                    match standing {
                        Some(standing) => drop(worker.standings.insert(known, standing)),
                        None => drop(worker.standings.remove(&known)),
                    }
                }
            }
            _ => self.touch(&id),
        }
    }

    fn open_or_close(&mut self, known: Known) {
        if self.open.remove(&known) {
            self.index.close(&needs(known));
            for worker in self.workers.values_mut() {
                worker.standings.remove(&known);
            }
        } else {
            self.open.insert(known);
            self.index.open(&needs(known));
        }
    }

    fn join(&mut self, id: WorkerId) {
        let devices = 1 + self.draws.below(5);
        let devices = (0..devices).map(|_| match self.draws.below(3) {
            0 => Device::Cuda,
            _ => Device::Cpu,
        });
        let devices: Vec<Device> = devices.collect();
        let host = Host {
            machine: format!("m{}", self.draws.below(3)),
            cpu_kind: ["x", "y"][self.draws.below(2) as usize].to_owned(),
            devices,
        };
        self.index.insert(&id, &host);
        let slots = host.devices.len();
        let worker = Worker {
            host,
            usable: false,
            taken: vec![false; slots],
            kept: vec![false; slots],
            standings: BTreeMap::new(),
        };
        self.workers.insert(id, worker);
    }

    fn touch(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        let slot = self.draws.below(worker.taken.len() as u64) as u32;
        let place = Place {
            worker: id.clone(),
            slot,
        };
        let yes = self.draws.below(2) == 0;
        if self.draws.below(3) == 0 {
            worker.kept[slot as usize] = yes;
            match yes {
                true => self.index.keep(&place, &JobId("j".to_owned())),
                false => self.index.let_go(&place),
            }
        } else {
            worker.taken[slot as usize] = yes;
            match yes {
                true => self.index.take(id, slot),
                false => self.index.give(id, slot),
            }
        }
    }

    fn check(&self, seed: u64) {
        let mut totals = [0, 0];
        for worker in self.workers.values().filter(|worker| worker.usable) {
            totals[0] += worker.total(Device::Cpu);
            totals[1] += worker.total(Device::Cuda);
        }
        assert_eq!(self.index.totals(), totals, "seed {seed}");
        for known in NEEDS {
            for device in super::DEVICES {
                for ranks in 1..=6 {
                    let request = Request { ranks, device };
                    let placed = self.index.place(&needs(known), request);
                    let expected = place(&self.workers, known, request);
                    assert_eq!(placed, expected, "seed {seed}: {known:?} {request:?}");
                }
                let unasked = self.workers.iter().filter(|(_, worker)| {
                    worker.usable
                        && worker.total(device) > 0
                        && worker.standings.get(&known) == Some(&Standing::Unasked)
                });
                let unasked: Vec<&WorkerId> = unasked.map(|(id, _)| id).collect();
                let needs = needs(known);
                let found: Vec<&WorkerId> = self.index.unasked(&needs, device).collect();
                assert_eq!(found, unasked, "seed {seed}");
            }
        }
    }
}

#[test]
fn the_index_places_as_a_look_at_every_worker_does() {
    for seed in 0..300 {
        let mut world = World {
            draws: Draws(Key::new(seed).named("index"), 0),
            index: Index::default(),
            workers: BTreeMap::new(),
            open: NEEDS.into(),
        };
        NEEDS
            .iter()
            .for_each(|known| world.index.open(&needs(*known)));
        for _ in 0..120 {
            world.change();
            world.check(seed);
        }
        world.workers.keys().for_each(|id| world.index.remove(id));
        assert_eq!(world.index.totals(), [0, 0]);
        for known in NEEDS {
            let request = Request {
                ranks: 1,
                device: Device::Cpu,
            };
            let none = Err(Unplaced::TooLarge { largest: 0 });
            assert_eq!(
                world.index.place(&needs(known), request),
                none,
                "seed {seed}"
            );
        }
    }
}

fn yes_host(machine: &str, kind: &str, slots: usize) -> Host {
    Host {
        machine: machine.to_owned(),
        cpu_kind: kind.to_owned(),
        devices: vec![Device::Cpu; slots],
    }
}

#[test]
fn packs_gangs() {
    let mut index = Index::default();
    let needs = needs(("s", false));
    index.open(&needs);
    let hosts = [
        ("a", yes_host("m", "k", 4)),
        ("b", yes_host("m", "k", 2)),
        ("c", yes_host("n", "k", 1)),
        ("d", yes_host("n", "other", 5)),
    ];
    for (name, host) in &hosts {
        let id: WorkerId = (*name).into();
        index.insert(&id, host);
        index.set_usable(&id, true);
        index.set_standing(&id, &needs, Some(Standing::Proven));
    }
    index.take(&"a".into(), 1);
    index.take(&"d".into(), 4);
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
        let device = Device::Cpu;
        let shown = match index.place(&needs, Request { ranks, device }) {
            Ok(places) => {
                let places = places.iter().map(|p| format!("{}{}", p.worker, p.slot));
                places.collect::<Vec<_>>().join(" ")
            }
            Err(why) => format!("{why:?}"),
        };
        assert_eq!(shown, expected, "{ranks}");
    }
}

/// The rule, by sorting everything.
fn slow_next(
    jobs: &BTreeMap<JobId, Queued>,
    used: &BTreeMap<String, [u32; 2]>,
    terms: &BTreeMap<String, Terms>,
    totals: [usize; 2],
    full: &BTreeSet<Ask>,
) -> Option<JobId> {
    let of = |workspace: &String| {
        let used = used.get(workspace).copied().unwrap_or_default();
        (used, terms.get(workspace).copied().unwrap_or_default())
    };
    let may = jobs.iter().filter(|(_, queued)| {
        let (used, terms) = of(&queued.workspace);
        let device = queued.ask.device;
        let most = terms.most[device].unwrap_or(u32::MAX);
        !full.contains(&queued.ask) && used[device] + queued.ask.ranks <= most
    });
    let next = may.min_by_key(|(_, queued)| {
        let (used, terms) = of(&queued.workspace);
        let share = Share::of(used, totals, terms.weight);
        (Reverse(queued.priority), share, queued.number)
    });
    next.map(|(job, _)| job.clone())
}

#[test]
fn the_queue_orders_as_sorting_every_job_does() {
    for seed in 0..300 {
        let mut draws = Draws(Key::new(seed).named("queue"), 0);
        let mut queue = Queue::default();
        let mut jobs: BTreeMap<JobId, Queued> = BTreeMap::new();
        let mut used: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        let mut terms: BTreeMap<String, Terms> = BTreeMap::new();
        let mut totals = [4, 2];
        queue.set_totals(totals);
        for _ in 0..150 {
            let workspace = ["a", "b", "c"][draws.below(3) as usize].to_owned();
            let number = draws.below(8);
            let job = JobId(format!("j{number}"));
            match draws.below(8) {
                0..=2 => {
                    let queued = Queued {
                        priority: draws.below(2) as i32,
                        ask: Ask {
                            needs: needs(NEEDS[draws.below(3) as usize]),
                            device: draws.below(2) as usize,
                            ranks: 1 + draws.below(2) as u32,
                            kept: None,
                        },
                        workspace,
                        number,
                    };
                    queue.put(&job, queued.clone());
                    jobs.insert(job, queued);
                }
                3 => {
                    queue.take_out(&job);
                    jobs.remove(&job);
                }
                4 | 5 => {
                    let device = draws.below(2) as usize;
                    let known = used.entry(workspace.clone()).or_default();
                    let more = match draws.below(2) {
                        0 => 1,
                        _ => -i64::from(known[device].min(1)),
                    };
                    known[device] = (i64::from(known[device]) + more) as u32;
                    queue.charge(&workspace, device, more);
                }
                6 => {
                    let most = [0, 1].map(|_| (draws.below(2) == 0).then(|| draws.below(5) as u32));
                    let weight = [0.5, 1.0, 3.0][draws.below(3) as usize];
                    queue.set_terms(&workspace, Terms { weight, most });
                    terms.insert(workspace, Terms { weight, most });
                }
                _ => {
                    totals = [draws.below(6) as usize, draws.below(3) as usize];
                    queue.set_totals(totals);
                }
            }
            let mut full = BTreeSet::new();
            loop {
                let next = queue.next(|ask| full.contains(ask));
                let expected = slow_next(&jobs, &used, &terms, totals, &full);
                assert_eq!(
                    next.as_ref().map(|(job, _)| job),
                    expected.as_ref(),
                    "{seed}"
                );
                let Some((_, ask)) = next else { break };
                full.insert(ask);
            }
        }
    }
}
