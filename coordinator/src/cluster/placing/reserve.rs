//! Slots kept for a named job: for one that has asked others of lower priority to leave, and for one that
//! has waited for so long that it would starve.
//!
//! Owns when slots are kept, who is asked to leave for them, and when they are let go. Nothing of it is
//! stored but since when a job waits: a new leader keeps slots anew, in the same order. The bound that
//! follows is stated in `docs/scheduling.md` and held by `tests/bound.rs`.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::{AttemptRef, Decision, Vacate};
use crate::cluster::parts::{Cause, Kept};
use crate::cluster::placing::field::Field;
use crate::cluster::placing::want::Want;
use crate::placement::choose::{Choice, Holder, choose};
use crate::placement::queue::Ask;
use crate::placement::{Place, Unplaced};

/// Jobs at one time for which slots are kept because they have waited for long.
pub(in crate::cluster) const MAX_RESERVED: usize = 4;

/// Slots are chosen at most this often for those who wait: it takes a look at every slot.
pub(in crate::cluster) const PACE_MS: u64 = 1_000;

/// More than any priority: who cannot be asked to leave.
const STAYS: i64 = 1 << 40;

impl Machine {
    /// Keeps slots for jobs that have waited for long, in the order in which they began to wait.
    pub(in crate::cluster) fn reserve(&mut self, full: &BTreeMap<Ask, Unplaced>) {
        if self.waits.is_empty() || self.returning() {
            return;
        }
        if self.now < self.waits.again_ms() {
            self.wake_at(self.waits.again_ms());
            return;
        }
        let mut hopeless = BTreeSet::new();
        let mut seen = None;
        for (since, job) in self.overdue() {
            let Some(queued) = self.slots.queue().get(&job).cloned() else {
                continue;
            };
            if !self.slots.queue().may_take(&queued.workspace, &queued.ask) {
                self.slots.queue_mut().hold(&job);
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
            self.waits.set_again(self.now + PACE_MS);
            if !self.reserve_for(&job, &queued.ask, since, like.2, &mut seen) {
                self.wake_at(self.waits.again_ms());
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
        let late = self.waits.iter();
        let late = late.take_while(|(since, _)| due(*since) <= self.now);
        let late = late.filter(|(_, job)| self.slots.kept(job).is_none());
        let late: Vec<(u64, JobId)> = late.map(|(since, job)| (since, job.clone())).collect();
        let next = self
            .waits
            .iter()
            .map(|(since, _)| due(since))
            .find(|due| *due > self.now);
        if let Some(next) = next {
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
            let hopes = self.slots.all_kept();
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
                ask_at_ms: self.waits.promise(job, at),
            },
            false => Cause::Hopes { until_ms: at },
        };
        self.wake_at(at);
        let waited = self.now.saturating_sub(since) / 1_000;
        let why = format!("it has waited for {waited} s");
        self.keep(job, ask, &places, cause, &why);
        if let Some(Want::Resume(trial) | Want::Judge(trial)) = self.want(job) {
            let told = self.slots.kept(job).map(Kept::told).unwrap_or_default();
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

    /// Asks those to leave who still hold what is kept for a job that has waited for long.
    pub(in crate::cluster) fn ask_holders(&mut self) {
        let now = self.now;
        let mut ask = Vec::new();
        let mut give_up = Vec::new();
        let kept = self.slots.all_kept();
        let pushing = kept.filter(|(job, _)| self.pushes(job));
        let pushing: BTreeSet<JobId> = pushing.map(|(job, _)| job.clone()).collect();
        for (job, kept) in self.slots.all_kept() {
            match kept.cause {
                Cause::Starves { ask_at_ms } if ask_at_ms <= now => {
                    ask.push((job.clone(), kept.places.clone()));
                }
                // What it runs has ended: it gets slots for which others may be asked.
                Cause::Hopes { .. } if pushing.contains(job) => give_up.push((job.clone(), false)),
                Cause::Hopes { until_ms } if until_ms <= now => give_up.push((job.clone(), true)),
                _ => {}
            }
        }
        for (job, _) in &ask {
            self.slots.set_cause(job, Cause::Asked);
        }
        for (job, places) in ask {
            if pushing.contains(&job) {
                self.ask_to_leave(&job, &places);
            } else if self.slots.kept(&job).is_some() {
                // It began to run meanwhile, and would have one more.
                let until_ms = now.saturating_add(self.config.reserve_ms);
                self.slots.set_cause(&job, Cause::Hopes { until_ms });
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

    /// Jobs for which slots are kept because they have waited: of those who push, or of those who hope.
    fn kept_at_once(&self, pushes: bool) -> usize {
        let like = |kept: &&Kept| match kept.cause {
            Cause::Starves { .. } | Cause::Asked => pushes,
            Cause::Hopes { .. } => !pushes,
            Cause::Preempts => false,
        };
        let kept = self.slots.all_kept().map(|(_, kept)| kept);
        kept.filter(like).count()
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
        let asks = self.slots.all_kept();
        let asks = asks.filter_map(|(_, kept)| match kept.cause {
            Cause::Starves { ask_at_ms } => Some(ask_at_ms),
            Cause::Hopes { until_ms } => Some(until_ms),
            Cause::Preempts | Cause::Asked => None,
        });
        let waits = self.waits.deadlines(patience);
        waits.chain(asks).chain([self.returned_ms])
    }
}
