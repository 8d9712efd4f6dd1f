//! Who is next: higher priority first; within one priority the workspace with the smallest share of the
//! cluster for its weight; within a workspace the job that was submitted first.
//!
//! Jobs that ask for the same stand in one line, so that what does not fit is tried once, however many
//! ask for it. A change costs the lines of its workspace times a logarithm. Where a workspace's quota has
//! no room for what a line asks, the workspace is not in that line.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;
use trainyard_common::spec::Device;

use super::{DEVICES, Needs, Request};

/// What a workspace's owner has set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Above 0.
    pub weight: f64,
    /// Most slots at one time, by device.
    pub most: [Option<u32>; 2],
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            weight: 1.0,
            most: [None, None],
        }
    }
}

/// What jobs of one line have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    pub needs: Needs,
    /// As [`super::at`] numbers it.
    pub device: usize,
    pub ranks: u32,
    /// A job that slots are kept for stands in a line of its own.
    pub kept: Option<JobId>,
}

impl Ask {
    pub fn request(&self) -> Request {
        Request {
            ranks: self.ranks,
            device: DEVICES[self.device],
        }
    }
}

/// A job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub priority: i32,
    pub ask: Ask,
    pub workspace: String,
    /// Order of submission.
    pub number: u64,
}

/// A workspace's dominant share for its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// The larger of the used fractions of both kinds of devices, for the weight.
    pub fn of(used: [u32; 2], totals: [usize; 2], weight: f64) -> Self {
        let fraction = |device: usize| f64::from(used[device]) / totals[device].max(1) as f64;
        Self(fraction(0).max(fraction(1)) / weight)
    }
}

impl Share {
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Eq for Share {}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Place = (Share, u64);

#[derive(Debug, Default)]
struct Line {
    /// Each workspace's jobs, by order of submission.
    jobs: BTreeMap<String, BTreeSet<(u64, JobId)>>,
    /// Where each workspace stands that may take what the line asks for.
    places: BTreeMap<String, Place>,
    order: BTreeSet<(Share, u64, String)>,
}

impl Line {
    fn set_place(&mut self, workspace: &str, place: Option<Place>) {
        let before = self.places.get(workspace).copied();
        if before == place {
            return;
        }
        if let Some((share, number)) = before {
            self.order.remove(&(share, number, workspace.to_owned()));
            self.places.remove(workspace);
        }
        if let Some((share, number)) = place {
            self.order.insert((share, number, workspace.to_owned()));
            self.places.insert(workspace.to_owned(), (share, number));
        }
    }
}

type Lines = BTreeMap<Ask, Line>;

#[derive(Debug, Default)]
struct Workspace {
    terms: Terms,
    /// Slots in use, by device.
    used: [u32; 2],
    /// For whom what the quota leaves is kept, by device: nobody behind takes any of it.
    held: [Option<(Reverse<i32>, u64)>; 2],
    lines: BTreeSet<(Reverse<i32>, Ask)>,
}

/// Jobs that want slots.
#[derive(Debug, Default)]
pub struct Queue {
    levels: BTreeMap<Reverse<i32>, Lines>,
    jobs: BTreeMap<JobId, Queued>,
    workspaces: BTreeMap<String, Workspace>,
    totals: [usize; 2],
}

impl Queue {
    /// Puts a job where it belongs, wherever it was.
    pub fn put(&mut self, job: &JobId, queued: Queued) {
        if self.jobs.get(job) == Some(&queued) {
            return;
        }
        self.take_out(job);
        let level = Reverse(queued.priority);
        let line = self.levels.entry(level).or_default();
        let line = line.entry(queued.ask.clone()).or_default();
        let jobs = line.jobs.entry(queued.workspace.clone()).or_default();
        jobs.insert((queued.number, job.clone()));
        let workspace = self.workspaces.entry(queued.workspace.clone()).or_default();
        workspace.lines.insert((level, queued.ask.clone()));
        self.place(&queued.workspace, level, &queued.ask);
        self.jobs.insert(job.clone(), queued);
    }

    pub fn take_out(&mut self, job: &JobId) {
        self.end_hold(job);
        let Some(queued) = self.jobs.remove(job) else {
            return;
        };
        let level = Reverse(queued.priority);
        let lines = self.levels.get_mut(&level);
        if let Some(line) = lines.and_then(|lines| lines.get_mut(&queued.ask))
            && let Some(jobs) = line.jobs.get_mut(&queued.workspace)
        {
            jobs.remove(&(queued.number, job.clone()));
            if jobs.is_empty() {
                line.jobs.remove(&queued.workspace);
            }
        }
        self.place(&queued.workspace, level, &queued.ask);
        self.tidy(&queued.workspace, level, &queued.ask);
    }

    pub fn get(&self, job: &JobId) -> Option<&Queued> {
        self.jobs.get(job)
    }

    /// All jobs in it, in no order that means anything.
    pub fn jobs(&self) -> impl Iterator<Item = (&JobId, &Queued)> {
        self.jobs.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Who is next, and for what, of the lines that are not left out.
    pub fn next(&self, left_out: impl Fn(&Ask) -> bool) -> Option<(JobId, Ask)> {
        self.levels
            .values()
            .find_map(|lines| next_of(lines, &left_out))
    }

    /// As [`Self::next`], of one priority alone.
    pub fn next_at(&self, priority: i32, left_out: impl Fn(&Ask) -> bool) -> Option<(JobId, Ask)> {
        next_of(self.levels.get(&Reverse(priority))?, &left_out)
    }

    /// Priorities of waiting jobs, the highest first.
    pub fn priorities(&self) -> Vec<i32> {
        self.levels.keys().map(|level| level.0).collect()
    }

    /// The workspace uses so many slots more, or fewer.
    pub fn charge(&mut self, workspace: &str, device: usize, more: i64) {
        let known = self.workspaces.entry(workspace.to_owned()).or_default();
        let used = i64::from(known.used[device]) + more;
        known.used[device] = u32::try_from(used.max(0)).unwrap_or(u32::MAX);
        self.replace(workspace);
        self.forget(workspace);
    }

    pub fn used(&self, workspace: &str) -> [u32; 2] {
        let known = self.workspaces.get(workspace);
        known.map_or([0, 0], |known| known.used)
    }

    /// Workspaces that use slots, wait for some or have terms of their own.
    pub fn workspaces(&self) -> impl Iterator<Item = &str> {
        self.workspaces.keys().map(String::as_str)
    }

    pub fn terms(&self, workspace: &str) -> Terms {
        let known = self.workspaces.get(workspace);
        known.map_or_else(Terms::default, |known| known.terms)
    }

    pub fn set_terms(&mut self, workspace: &str, terms: Terms) {
        let known = self.workspaces.entry(workspace.to_owned()).or_default();
        known.terms = terms;
        self.replace(workspace);
        self.forget(workspace);
    }

    /// Slots of the cluster, by device.
    pub fn set_totals(&mut self, totals: [usize; 2]) {
        if self.totals != totals {
            self.totals = totals;
            let names: Vec<String> = self.workspaces.keys().cloned().collect();
            names.iter().for_each(|name| self.replace(name));
        }
    }

    pub fn share(&self, workspace: &str) -> Share {
        let known = self.workspaces.get(workspace);
        let (used, terms) = known.map_or(([0, 0], Terms::default()), |w| (w.used, w.terms));
        Share::of(used, self.totals, terms.weight)
    }

    /// How many slots the workspace's quota leaves; `None`: as many as there are.
    pub fn room(&self, workspace: &str, device: usize) -> Option<u32> {
        let known = self.workspaces.get(workspace)?;
        let most = known.terms.most[device]?;
        Some(most.saturating_sub(known.used[device]))
    }

    /// Whether the quota leaves room for what a job asks.
    pub fn may_take(&self, workspace: &str, ask: &Ask) -> bool {
        let room = self.room(workspace, ask.device);
        room.is_none_or(|room| room >= ask.ranks)
    }

    /// Keeps what the workspace's quota leaves for this job: nobody of the workspace who comes after it
    /// takes any, until it is taken out of the queue or the hold is ended.
    pub fn hold(&mut self, job: &JobId) {
        let Some(queued) = self.jobs.get(job) else {
            return;
        };
        let (level, number) = (Reverse(queued.priority), queued.number);
        let (workspace, device) = (queued.workspace.clone(), queued.ask.device);
        if let Some(known) = self.workspaces.get_mut(&workspace)
            && known.held[device].is_none_or(|held| (level, number) < held)
        {
            known.held[device] = Some((level, number));
            self.replace(&workspace);
        }
    }

    /// What the quota leaves is anybody's again.
    pub fn end_hold(&mut self, job: &JobId) {
        let Some(queued) = self.jobs.get(job) else {
            return;
        };
        let own = Some((Reverse(queued.priority), queued.number));
        let workspace = queued.workspace.clone();
        if let Some(known) = self.workspaces.get_mut(&workspace)
            && known.held.contains(&own)
        {
            let others = known.held.iter_mut().filter(|held| **held == own);
            others.for_each(|held| *held = None);
            self.replace(&workspace);
        }
    }

    fn replace(&mut self, workspace: &str) {
        let known = self.workspaces.get(workspace);
        let lines = known.map_or_else(Vec::new, |known| known.lines.iter().cloned().collect());
        for (level, ask) in lines {
            self.place(workspace, level, &ask);
        }
    }

    /// Puts a workspace where it belongs in a line.
    fn place(&mut self, workspace: &str, level: Reverse<i32>, ask: &Ask) {
        let share = self.share(workspace);
        let may = self.may_take(workspace, ask);
        let known = self.workspaces.get(workspace);
        // Without a quota there is nothing to keep.
        let limited = known.filter(|known| known.terms.most[ask.device].is_some());
        let held = limited.and_then(|known| known.held[ask.device]);
        let lines = self.levels.get_mut(&level);
        let Some(line) = lines.and_then(|lines| lines.get_mut(ask)) else {
            return;
        };
        let first = line.jobs.get(workspace).and_then(BTreeSet::first);
        let first = first
            .map(|(number, _)| *number)
            .filter(|number| may && held.is_none_or(|held| (level, *number) <= held));
        let place = first.map(|number| (share, number));
        line.set_place(workspace, place);
    }

    /// Forgets a line's empty rooms.
    fn tidy(&mut self, workspace: &str, level: Reverse<i32>, ask: &Ask) {
        if let Some(lines) = self.levels.get_mut(&level) {
            let line = lines.get(ask);
            if line.is_some_and(|line| line.jobs.contains_key(workspace)) {
                return;
            }
            if line.is_some_and(|line| line.jobs.is_empty()) {
                lines.remove(ask);
            }
            if lines.is_empty() {
                self.levels.remove(&level);
            }
        }
        if let Some(known) = self.workspaces.get_mut(workspace) {
            known.lines.remove(&(level, ask.clone()));
        }
        self.forget(workspace);
    }

    fn forget(&mut self, workspace: &str) {
        let idle = self.workspaces.get(workspace).is_some_and(|known| {
            known.used == [0, 0] && known.lines.is_empty() && known.terms == Terms::default()
        });
        if idle {
            self.workspaces.remove(workspace);
        }
    }
}

fn next_of(lines: &Lines, left_out: &impl Fn(&Ask) -> bool) -> Option<(JobId, Ask)> {
    let open = lines.iter().filter(|(ask, _)| !left_out(ask));
    let heads = open.filter_map(|(ask, line)| Some((line.order.first()?, ask, line)));
    let ((_, _, workspace), ask, line) = heads.min_by(|a, b| a.0.cmp(b.0))?;
    let (_, job) = line.jobs.get(workspace)?.first()?;
    Some((job.clone(), ask.clone()))
}

/// The device's name, as people write it.
pub fn device_name(device: usize) -> &'static str {
    match DEVICES[device] {
        Device::Cpu => "cpu",
        Device::Cuda => "cuda",
    }
}
