//! Slots kept for a named job: for one that has asked others of lower priority to leave, and for one that
//! has waited for so long that it would starve.
//!
//! Owns when slots are kept, who is asked to leave for them, and when they are let go. Nothing of it is
//! stored but since when a job waits: a new leader keeps slots anew, in the same order. The bound that
//! follows is stated in `docs/scheduling.md` and held by `tests/bound.rs`.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;
use trainyard_common::spec::Device;

use crate::cluster::Machine;
use crate::cluster::model::{AttemptRef, Decision, RankPlace, Vacate};
use crate::cluster::placing::dispatch::Want;
use crate::placement::choose::{Choice, Holder, Seat, choose};
use crate::placement::queue::Ask;
use crate::placement::{DEVICES, Place, Unplaced};

/// Jobs at one time for which slots are kept because they have waited for long.
pub(in crate::cluster) const MAX_RESERVED: usize = 4;

/// Slots are chosen at most this often for those who wait: it takes a look at every slot.
pub(in crate::cluster) const PACE_MS: u64 = 1_000;

/// Slots that are named in a note.
const MAX_NAMED: usize = 8;

/// More than any priority: who cannot be asked to leave.
const STAYS: i64 = 1 << 40;

/// Why slots are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Cause {
    /// Others of lower priority were asked to leave at once.
    Preempts,
    /// It has waited for long: at this time those are asked to leave who still hold them.
    Starves { ask_at_ms: u64 },
    /// They were asked.
    Asked,
    /// A search that runs would have one more gang: nobody is asked who is its equal, and until this time
    /// alone.
    Hopes { until_ms: u64 },
}

/// Slots that are kept for a job.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Kept {
    pub(in crate::cluster) places: BTreeSet<Place>,
    pub(in crate::cluster) store: String,
    /// Of one gang.
    pub(in crate::cluster) ranks: u32,
    /// How many gangs they are for.
    gangs: usize,
    cause: Cause,
    why: String,
}

impl Kept {
    /// What is kept and why, for the job's note.
    pub(in crate::cluster) fn told(&self) -> String {
        let named = self.places.iter().take(MAX_NAMED);
        let named: Vec<String> = named.map(|p| format!("{}:{}", p.worker, p.slot)).collect();
        let more = match self.places.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("; {}{more} are kept for it: {}", named.join(", "), self.why)
    }
}

/// Slots that a gang could have, and who holds them.
pub(in crate::cluster) struct Field {
    pub(in crate::cluster) seats: Vec<Seat>,
    pub(in crate::cluster) holders: Vec<Holder>,
    pub(in crate::cluster) attempts: Vec<AttemptRef>,
}

impl Machine {
    /// Where the job's gang fits now; what is kept for it is its own.
    pub(in crate::cluster) fn find(
        &mut self,
        job: &JobId,
        ask: &Ask,
    ) -> Result<Vec<Place>, Unplaced> {
        let own = ask.kept.as_ref().and_then(|_| self.kept.get(job));
        let Some(own) = own else {
            return self.index.place(&ask.store, ask.request());
        };
        own.places.iter().for_each(|place| self.index.let_go(place));
        let placed = self.index.place(&ask.store, ask.request());
        for place in &own.places {
            self.index.keep(place, job);
        }
        placed
    }

    /// A gang of the job has got its places: what was kept for it is let go.
    pub(in crate::cluster) fn use_kept(&mut self, job: &JobId, used: &[Place]) {
        let Some(kept) = self.kept.get_mut(job) else {
            return;
        };
        kept.gangs = kept.gangs.saturating_sub(1);
        let left = kept.gangs * kept.ranks as usize;
        let mut gone: Vec<Place> = used
            .iter()
            .filter(|p| kept.places.contains(p))
            .cloned()
            .collect();
        let surplus = (kept.places.len() - gone.len()).saturating_sub(left);
        let others = kept
            .places
            .iter()
            .rev()
            .filter(|place| !gone.contains(place));
        let others: Vec<Place> = others.take(surplus).cloned().collect();
        self.dirty |= !others.is_empty();
        gone.extend(others);
        for place in &gone {
            kept.places.remove(place);
            self.index.let_go(place);
        }
        if kept.places.is_empty() {
            self.kept.remove(job);
        }
    }

    /// Keeps nothing for the job any more.
    pub(in crate::cluster) fn let_go(&mut self, job: &JobId) {
        let Some(kept) = self.kept.remove(job) else {
            return;
        };
        kept.places
            .iter()
            .for_each(|place| self.index.let_go(place));
        if let Some(mut queued) = self.queue.get(job).cloned() {
            queued.ask.kept = None;
            self.queue.put(job, queued);
            self.untold.insert(job.clone());
        }
        self.dirty = true;
    }

    /// Lets go what is of no use: on workers that are gone, or that its workspace's quota does not allow.
    pub(in crate::cluster) fn check_kept(&mut self, workers_changed: bool) {
        let useless = self.kept.iter().filter(|(job, kept)| {
            let serves = |place: &Place| self.index.serves(&place.worker, &kept.store);
            let queued = self.queue.get(job);
            let may = queued.is_some_and(|q| self.queue.may_take(&q.workspace, &q.ask));
            !may || (workers_changed && !kept.places.iter().all(serves))
        });
        let useless: Vec<JobId> = useless.map(|(job, _)| job.clone()).collect();
        if !useless.is_empty() {
            // Others are kept instead at once.
            self.reserve_again_ms = 0;
        }
        useless.iter().for_each(|job| self.let_go(job));
    }

    /// Keeps slots for jobs that have waited for long, in the order in which they began to wait.
    pub(in crate::cluster) fn reserve(&mut self, full: &BTreeMap<Ask, Unplaced>) {
        if self.waiting.is_empty() || self.returning() {
            return;
        }
        if self.now < self.reserve_again_ms {
            self.wake_at(self.reserve_again_ms);
            return;
        }
        let mut hopeless = BTreeSet::new();
        let mut seen = None;
        for (since, job) in self.overdue() {
            let Some(queued) = self.queue.get(&job).cloned() else {
                continue;
            };
            if !self.queue.may_take(&queued.workspace, &queued.ask) {
                self.queue.hold(&job);
                continue;
            }
            let like = (queued.priority, queued.ask.clone(), self.pushes(&job));
            let busy = full.get(&queued.ask) == Some(&Unplaced::Busy);
            if !busy || hopeless.contains(&like) {
                continue;
            }
            if self.kept_at_once(like.2) >= MAX_RESERVED {
                break;
            }
            self.reserve_again_ms = self.now + PACE_MS;
            if !self.reserve_for(&job, &queued.ask, since, like.2, &mut seen) {
                self.wake_at(self.reserve_again_ms);
                if self.could_have(&job, &queued.ask, like.2) {
                    // Others have what it needs for now; who came first gets slots first.
                    break;
                }
                hopeless.insert(like);
            }
        }
    }

    /// Who has waited for long without slots' being kept for it, in order.
    fn overdue(&mut self) -> Vec<(u64, JobId)> {
        let patience = self.config.gang_wait_ms;
        let due = |since: u64| since.saturating_add(patience);
        let late = self
            .waiting
            .iter()
            .take_while(|(since, ..)| due(*since) <= self.now);
        let late = late.filter(|(_, _, job)| !self.kept.contains_key(job));
        let late = late.map(|(since, _, job)| (*since, job.clone())).collect();
        let mut next = self.waiting.iter().map(|(since, ..)| due(*since));
        if let Some(next) = next.find(|due| *due > self.now) {
            self.wake_at(next);
        }
        late
    }

    /// False: the slots that it could have are held by others for now. `seen`: the slots that the last one
    /// could have had, and what is alike to it; those that are kept are taken out.
    fn reserve_for(
        &mut self,
        job: &JobId,
        ask: &Ask,
        since: u64,
        pushes: bool,
        seen: &mut Option<((i32, Ask, bool), Field)>,
    ) -> bool {
        let like = (self.priority(job), ask.clone(), pushes);
        let mut field = match seen.take() {
            Some((known, field)) if known == like => field,
            _ => self.field_for(job, ask, pushes, false),
        };
        let ranks = ask.ranks as usize;
        let mut choice = choose(ranks, &field.seats, &field.holders);
        if choice.is_none() && pushes {
            // Who only hopes gives way.
            let hopes = self.kept.iter();
            let hopes = hopes.filter(|(_, kept)| matches!(kept.cause, Cause::Hopes { .. }));
            let hopes: Vec<JobId> = hopes.map(|(job, _)| job.clone()).collect();
            if !hopes.is_empty() {
                hopes.iter().for_each(|job| self.let_go(job));
                field = self.field_for(job, ask, pushes, false);
                choice = choose(ranks, &field.seats, &field.holders);
            }
        }
        let Some(Choice { places, .. }) = choice else {
            return false;
        };
        field.seats.retain(|seat| !places.contains(&seat.place));
        *seen = Some((like, field));
        let at = self.now.saturating_add(self.config.reserve_ms);
        let cause = match pushes {
            // Slots that are kept elsewhere instead are not kept anew.
            true => Cause::Starves {
                ask_at_ms: *self.promised.entry(job.clone()).or_insert(at),
            },
            false => Cause::Hopes { until_ms: at },
        };
        self.wake_at(at);
        let waited = self.now.saturating_sub(since) / 1_000;
        let why = format!("it has waited for {waited} s");
        self.keep(job, ask, &places, cause, &why);
        if let Some(Want::Resume(trial) | Want::Judge(trial)) = self.want(job) {
            let told = self.kept.get(job).map(Kept::told).unwrap_or_default();
            let told = format!("waits{told}");
            self.explain(job, trial, Decision::Reserved, told);
        }
        true
    }

    /// Slots for one who has waited for long: of those who may be asked the ones that have run longest, as
    /// they are likely to end first, and so that everybody has a turn.
    fn field_for(&self, job: &JobId, ask: &Ask, pushes: bool, kept_too: bool) -> Field {
        let priority = self.priority(job);
        self.field(ask, kept_too, |machine, at| {
            let stays = !machine.may_ask(at, priority, pushes);
            // Nobody knows when who stays will end: only who hopes waits for that.
            (!stays || !pushes).then(|| Holder {
                importance: machine.importance(at) + if stays { STAYS } else { 0 },
                started_ms: u64::MAX - machine.started(at),
            })
        })
    }

    /// Whether there would be slots if none were kept for others.
    fn could_have(&self, job: &JobId, ask: &Ask, pushes: bool) -> bool {
        let field = self.field_for(job, ask, pushes, true);
        choose(ask.ranks as usize, &field.seats, &field.holders).is_some()
    }

    /// Keeps places for one more gang of the job.
    pub(in crate::cluster) fn keep(
        &mut self,
        job: &JobId,
        ask: &Ask,
        places: &[Place],
        cause: Cause,
        why: &str,
    ) {
        for place in places {
            self.index.keep(place, job);
        }
        let kept = self.kept.entry(job.clone()).or_insert_with(|| Kept {
            places: BTreeSet::new(),
            store: ask.store.clone(),
            ranks: ask.ranks,
            gangs: 0,
            cause,
            why: why.to_owned(),
        });
        kept.gangs += 1;
        kept.places.extend(places.iter().cloned());
        if let Some(mut queued) = self.queue.get(job).cloned() {
            queued.ask.kept = Some(job.clone());
            self.queue.put(job, queued.clone());
            self.waits_for_slots(job, &queued.ask);
        }
    }

    /// Asks those to leave who still hold what is kept for a job that has waited for long.
    pub(in crate::cluster) fn ask_holders(&mut self) {
        let now = self.now;
        let mut ask = Vec::new();
        let mut give_up = Vec::new();
        let pushing: BTreeSet<JobId> = self
            .kept
            .keys()
            .filter(|j| self.pushes(j))
            .cloned()
            .collect();
        for (job, kept) in &mut self.kept {
            match kept.cause {
                Cause::Starves { ask_at_ms } if ask_at_ms <= now => {
                    kept.cause = Cause::Asked;
                    ask.push((job.clone(), kept.places.clone()));
                }
                // What it runs has ended: it gets slots for which others may be asked.
                Cause::Hopes { .. } if pushing.contains(job) => give_up.push((job.clone(), false)),
                Cause::Hopes { until_ms } if until_ms <= now => give_up.push((job.clone(), true)),
                _ => {}
            }
        }
        for (job, places) in ask {
            if pushing.contains(&job) {
                self.ask_to_leave(&job, &places);
            } else if let Some(kept) = self.kept.get_mut(&job) {
                // It began to run meanwhile, and would have one more.
                let until_ms = now.saturating_add(self.config.reserve_ms);
                kept.cause = Cause::Hopes { until_ms };
                self.wake_at(until_ms);
            }
        }
        for (job, anew) in give_up {
            self.let_go(&job);
            if anew {
                self.set_waiting_since(&job, Some(now));
            }
        }
    }

    fn ask_to_leave(&mut self, job: &JobId, places: &BTreeSet<Place>) {
        let priority = self.priority(job);
        let since = self.jobs.get(job).and_then(|j| j.record.waiting_since_ms);
        let waited = self.now.saturating_sub(since.unwrap_or(self.now)) / 1_000;
        let reason = format!("{job} has waited for {waited} s for slots that are kept for it");
        let holder = |place: &Place| {
            let worker = self.workers.get(&place.worker)?;
            Some(worker.slots.get(place.slot as usize)?.as_ref()?.at.clone())
        };
        let holders: BTreeSet<AttemptRef> = places.iter().filter_map(holder).collect();
        for at in holders {
            if self.may_ask(&at, priority, true) {
                self.vacate(&at, Vacate::Preempt, &reason);
            }
        }
    }

    /// Slots on usable workers that have proven the store, of those that are kept for others only if asked.
    /// `holder`: what is known of who holds one; `None`: it cannot be had.
    pub(in crate::cluster) fn field(
        &self,
        ask: &Ask,
        kept_too: bool,
        holder: impl Fn(&Self, &AttemptRef) -> Option<Holder>,
    ) -> Field {
        let mut field = Field {
            seats: Vec::new(),
            holders: Vec::new(),
            attempts: Vec::new(),
        };
        let mut known: BTreeMap<AttemptRef, Option<usize>> = BTreeMap::new();
        let device: Device = DEVICES[ask.device];
        let serving = self.workers.iter();
        let serving = serving.filter(|(id, _)| self.index.serves(id, &ask.store));
        for (id, worker) in serving {
            for (slot, held) in (0u32..).zip(&worker.slots) {
                let other = worker.device(slot as usize) != device;
                if other || (!kept_too && self.index.kept(id, slot).is_some()) {
                    continue;
                }
                let held = match held.as_ref().filter(|rank| !self.leaves(&rank.at)) {
                    None => None,
                    Some(rank) => {
                        let at = known.entry(rank.at.clone()).or_insert_with(|| {
                            field.holders.push(holder(self, &rank.at)?);
                            field.attempts.push(rank.at.clone());
                            Some(field.holders.len() - 1)
                        });
                        if at.is_none() {
                            continue;
                        }
                        *at
                    }
                };
                field.seats.push(Seat {
                    place: Place {
                        worker: id.clone(),
                        slot,
                    },
                    kind: worker.info.cpu_kind.clone(),
                    held,
                });
            }
        }
        field
    }

    /// Whether an attempt gives its slots back without being asked.
    pub(in crate::cluster) fn leaves(&self, at: &AttemptRef) -> bool {
        self.attempt(at)
            .is_none_or(|attempt| attempt.outcome.is_some() || attempt.vacate.is_some())
    }

    /// Whether what the job wants is a trial that exists and waits, or the only one that would run. A
    /// search that runs might want one more for ever; that is no reason to stop its equals.
    pub(in crate::cluster) fn pushes(&self, job: &JobId) -> bool {
        let runs = self
            .jobs
            .get(job)
            .is_some_and(|found| !found.running.is_empty());
        match self.want(job) {
            Some(Want::Resume(_) | Want::Judge(_)) => true,
            Some(Want::New | Want::Promote) => !runs,
            None => false,
        }
    }

    /// Whether slots are kept for the job once it has waited for long: for whatever pushes, and for gangs,
    /// which would never meet so many free slots at once.
    pub(in crate::cluster) fn is_bounded(&self, job: &JobId) -> bool {
        let gang = self.queue.get(job).is_some_and(|q| q.ask.ranks > 1);
        gang || self.pushes(job)
    }

    /// Jobs for which slots are kept because they have waited: of those who push, or of those who hope.
    fn kept_at_once(&self, pushes: bool) -> usize {
        let like = |kept: &&Kept| match kept.cause {
            Cause::Starves { .. } | Cause::Asked => pushes,
            Cause::Hopes { .. } => !pushes,
            Cause::Preempts => false,
        };
        self.kept.values().filter(like).count()
    }

    /// Workers still come back to a new leader: nobody is asked to leave for what may be free soon.
    pub(in crate::cluster) fn returning(&mut self) -> bool {
        let returning = self.now < self.returned_ms;
        if returning {
            self.wake_at(self.returned_ms);
        }
        returning
    }

    /// What was kept for the job of an attempt that is placed on it, for the reason of its placing.
    pub(in crate::cluster) fn kept_for(&self, job: &JobId, ranks: &[RankPlace]) -> String {
        let Some(kept) = self.kept.get(job) else {
            return String::new();
        };
        let own = ranks.iter().any(|rank| {
            rank.slots.iter().any(|slot| {
                let worker = rank.worker.clone();
                kept.places.contains(&Place {
                    worker,
                    slot: *slot,
                })
            })
        });
        match own {
            true => format!(", kept for it because {}", kept.why),
            false => String::new(),
        }
    }

    /// The longest that a gang waits before which `ahead` others began to wait, if they fit beside what has a
    /// higher priority or may not be asked to leave. `late_ms`: how long an attempt that was stopped takes to
    /// end, with what the coordinator takes to hear of it.
    #[cfg(test)]
    pub(in crate::cluster) fn wait_bound_ms(&self, ahead: u64, late_ms: u64) -> u64 {
        let turn = self.config.reserve_ms + self.config.vacate_ms + late_ms;
        self.config.gang_wait_ms + (ahead + 1) * turn
    }

    /// Deadlines of what waits and of what is kept.
    pub(in crate::cluster) fn reserve_deadlines(&self) -> impl Iterator<Item = u64> {
        let patience = self.config.gang_wait_ms;
        let waiting = self.waiting.iter();
        let waiting = waiting.map(move |(since, ..)| since.saturating_add(patience));
        let asks = self.kept.values().filter_map(|kept| match kept.cause {
            Cause::Starves { ask_at_ms } => Some(ask_at_ms),
            Cause::Hopes { until_ms } => Some(until_ms),
            Cause::Preempts | Cause::Asked => None,
        });
        let again = self.tried.values().copied();
        let times = [self.returned_ms, self.reserve_again_ms];
        waiting.chain(asks).chain(again).chain(times)
    }
}
