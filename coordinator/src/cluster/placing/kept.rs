//! Slots that are kept for a job: which, why, and how they are used or let go.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::RankPlace;
use crate::cluster::parts::Cause;
use crate::placement::Place;
use crate::placement::queue::Ask;

impl Machine {
    /// A gang of the job has got its places: what was kept for it is let go.
    pub(in crate::cluster) fn use_kept(&mut self, job: &JobId, used: &[Place]) {
        self.dirty |= self.slots.use_kept(job, used);
    }

    /// Keeps nothing for the job any more.
    pub(in crate::cluster) fn let_go(&mut self, job: &JobId) {
        let Some(in_line) = self.slots.let_go(job) else {
            return;
        };
        if in_line {
            self.untold.insert(job.clone());
        }
        self.dirty = true;
    }

    /// Lets go what is of no use: on workers that are gone, or that its workspace's quota does not allow.
    pub(in crate::cluster) fn check_kept(&mut self, workers_changed: bool) {
        let useless = self.slots.kept_in_vain(workers_changed);
        if !useless.is_empty() {
            // Others are kept instead at once.
            self.waits.set_again(0);
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
        if let Some(ask) = self.slots.keep(job, ask, places, cause, why) {
            self.waits_for_slots(job, &ask);
        }
    }

    /// What was kept for the job of an attempt that is placed on it, for the reason of its placing.
    pub(in crate::cluster) fn kept_for(&self, job: &JobId, ranks: &[RankPlace]) -> String {
        let Some(kept) = self.slots.kept(job) else {
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

    /// It wants no slots now. One that finds out what to begin does not hold others up; it keeps its turn, and what
    /// is kept for it.
    pub(in crate::cluster) fn step_out(&mut self, job: &JobId) {
        match self.thinks(job) {
            true => self.slots.queue_mut().take_out(job),
            false => self.leave_queue(job),
        }
    }

    /// It wants no slots, or cannot use any.
    pub(in crate::cluster) fn leave_queue(&mut self, job: &JobId) {
        self.let_go(job);
        self.slots.queue_mut().take_out(job);
        self.set_waiting_since(job, None);
    }
}
