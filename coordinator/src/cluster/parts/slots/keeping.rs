//! Keeping slots for a job, using them and letting them go.

use std::collections::BTreeSet;

use trainyard_common::ids::JobId;

use super::Slots;
use crate::cluster::parts::kept::{Cause, Kept};
use crate::placement::queue::Ask;
use crate::placement::{Place, Unplaced};

impl Slots {
    /// What is kept for the job.
    pub(in crate::cluster) fn kept(&self, job: &JobId) -> Option<&Kept> {
        self.kept.get(job)
    }

    /// Who has some kept.
    pub(in crate::cluster) fn all_kept(&self) -> impl ExactSizeIterator<Item = (&JobId, &Kept)> {
        self.kept.iter()
    }

    /// Slots stay kept for the job, for another cause.
    pub(in crate::cluster) fn set_cause(&mut self, job: &JobId, cause: Cause) {
        if let Some(kept) = self.kept.get_mut(job) {
            kept.cause = cause;
        }
    }

    /// Where the job's gang fits now; what is kept for it is its own.
    pub(in crate::cluster) fn find(
        &mut self,
        job: &JobId,
        ask: &Ask,
    ) -> Result<Vec<Place>, Unplaced> {
        let own = ask.kept.as_ref().and_then(|_| self.kept.get(job));
        let Some(own) = own else {
            return self.index.place(&ask.needs, ask.request());
        };
        own.places.iter().for_each(|place| self.index.let_go(place));
        let placed = self.index.place(&ask.needs, ask.request());
        for place in &own.places {
            self.index.keep(place, job);
        }
        placed
    }

    /// Keeps places for one more gang of the job. What it asks for then, if it is in a line.
    pub(in crate::cluster) fn keep(
        &mut self,
        job: &JobId,
        ask: &Ask,
        places: &[Place],
        cause: Cause,
        why: &str,
    ) -> Option<Ask> {
        for place in places {
            self.index.keep(place, job);
        }
        let kept = self.kept.entry(job.clone()).or_insert_with(|| Kept {
            places: BTreeSet::new(),
            needs: ask.needs.clone(),
            ranks: ask.ranks,
            gangs: 0,
            cause,
            why: why.to_owned(),
        });
        kept.gangs += 1;
        kept.places.extend(places.iter().cloned());
        let mut queued = self.queue.get(job)?.clone();
        queued.ask.kept = Some(job.clone());
        let ask = queued.ask.clone();
        self.queue.put(job, queued);
        Some(ask)
    }

    /// A gang of the job has got its places: what was kept for it is let go. True: others can have some of
    /// that.
    pub(in crate::cluster) fn use_kept(&mut self, job: &JobId, used: &[Place]) -> bool {
        let Some(kept) = self.kept.get_mut(job) else {
            return false;
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
        let freed = !others.is_empty();
        gone.extend(others);
        for place in &gone {
            kept.places.remove(place);
            self.index.let_go(place);
        }
        if kept.places.is_empty() {
            self.kept.remove(job);
        }
        freed
    }

    /// Keeps nothing for the job any more. `None`: nothing was; true: it is in a line.
    pub(in crate::cluster) fn let_go(&mut self, job: &JobId) -> Option<bool> {
        let kept = self.kept.remove(job)?;
        kept.places
            .iter()
            .for_each(|place| self.index.let_go(place));
        let Some(mut queued) = self.queue.get(job).cloned() else {
            return Some(false);
        };
        queued.ask.kept = None;
        self.queue.put(job, queued);
        Some(true)
    }

    /// For whom slots are kept in vain: on workers that are gone, or that its workspace's quota does not
    /// allow.
    pub(in crate::cluster) fn kept_in_vain(&self, workers_changed: bool) -> Vec<JobId> {
        let useless = self.kept.iter().filter(|(job, kept)| {
            let serves = |place: &Place| self.index.serves(&place.worker, &kept.needs);
            let queued = self.queue.get(job);
            // Who finds out what to begin is in no line.
            let may = queued.is_none_or(|q| self.queue.may_take(&q.workspace, &q.ask));
            !may || (workers_changed && !kept.places.iter().all(serves))
        });
        useless.map(|(job, _)| job.clone()).collect()
    }
}
