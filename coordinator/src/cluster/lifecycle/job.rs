//! What can be said of a job's search from the job alone.

use trainyard_common::ids::TrialId;

use crate::cluster::model::Job;

impl Job {
    /// Whether nothing of the search goes on by itself any more: no trial is under way, none is to be
    /// promoted, and nobody holds one that could.
    pub(in crate::cluster) fn spent(&self) -> bool {
        let under_way = !self.pending.is_empty() || !self.running.is_empty();
        let held = || {
            let mut paused = self.paused.iter();
            paused.any(|trial| {
                let by_people = self.live(*trial).is_some_and(|known| known.record.held);
                by_people || self.scheduler.waits(*trial).is_none()
            })
        };
        !under_way && self.stints.is_empty() && self.scheduler.promotable().is_none() && !held()
    }

    /// Whether the trial has a checkpoint of the rung that it is at. The built-in trainer always makes
    /// one there; if it was lost with its worker, the trial trains that stretch once more: it may turn
    /// out to be the best, and its weights are what the search is for. A program has none.
    pub(in crate::cluster) fn kept_its_rung(&self, trial: TrialId) -> bool {
        let newest = self
            .live(trial)
            .and_then(|known| known.record.checkpoints.last());
        let kept = newest.map(|checkpoint| checkpoint.epoch);
        // What is held back the scheduler has not heard of.
        let held_back = self.stints.get(&trial).filter(|stint| stint.rung.is_some());
        let rung = match held_back.and_then(|stint| stint.until) {
            Some(until) => until,
            None => self.scheduler.from(trial),
        };
        self.document.job().model.is_none() || kept >= Some(rung)
    }
}

impl Job {
    pub(in crate::cluster) fn is_logical(&self) -> bool {
        self.document.job().logical_time
    }

    /// Whether a trial that was tried again has come to where no promotion can reach it.
    pub(in crate::cluster) fn goes_no_further(&self, trial: TrialId) -> bool {
        let again = self.live(trial).is_some_and(|known| known.record.again);
        again && self.scheduler.waits(trial).is_none()
    }

    /// Whether the trial waits at its rung with a result that is held back until its turn. An attempt that was lost
    /// there has not said that it goes on: it might have ended, and the next one tells.
    pub(in crate::cluster) fn held_back(&self, trial: TrialId) -> bool {
        let stint = self.stints.get(&trial);
        stint.is_some_and(|stint| !stint.last && stint.rung.is_some() && stint.left)
    }

    pub(in crate::cluster) fn logical_workers(&self) -> usize {
        self.document.job().logical_workers.unwrap_or(1).max(1) as usize
    }
}
