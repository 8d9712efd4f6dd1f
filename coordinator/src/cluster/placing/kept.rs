//! Slots that are kept for a job: which, why, and how they are used or let go.

use std::collections::BTreeSet;

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::RankPlace;
use crate::placement::queue::Ask;
use crate::placement::{Place, Unplaced};

/// Slots that are named in a note.
const MAX_NAMED: usize = 8;

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
    pub(in crate::cluster) gangs: usize,
    pub(in crate::cluster) cause: Cause,
    pub(in crate::cluster) why: String,
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

    /// It wants no slots, or cannot use any.
    pub(in crate::cluster) fn leave_queue(&mut self, job: &JobId) {
        self.let_go(job);
        self.queue.take_out(job);
        self.set_waiting_since(job, None);
    }
}
