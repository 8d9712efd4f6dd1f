//! What a scheduler decides, carried out: results at rungs, promotions, and who is stopped in the end.
//!
//! Which trial goes on is the scheduler's to say (`crate::schedule`). Each result and each promotion is an
//! entry of the job's search log, so that the same log gives the same decisions.

use trainyard_common::ids::{JobId, TrialId};

use super::Machine;
use super::records::{Decision, SearchEntry, TrialState};
use super::state::Job;
use super::types::AttemptRef;

impl Job {
    /// Whether nothing of the search goes on by itself any more: no trial is under way, none is to be
    /// promoted, and nobody holds one that could.
    pub(super) fn spent(&self) -> bool {
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
    pub(super) fn kept_its_rung(&self, trial: TrialId) -> bool {
        let newest = self
            .live(trial)
            .and_then(|known| known.record.checkpoints.last());
        let kept = newest.map(|checkpoint| checkpoint.epoch);
        self.document.job().model.is_none() || kept >= self.scheduler.until(trial)
    }
}

impl Machine {
    /// A trial's result at a resource; it counts if it is the one that its rung waits for.
    pub(super) fn at_rung(
        &mut self,
        job: &JobId,
        trial: TrialId,
        resource: u64,
        value: Option<f64>,
    ) {
        let found = self.jobs.get(job);
        let counts = found.and_then(|found| found.scheduler.reaches(trial, resource));
        if counts.is_some() && !self.hold_rung(job, trial, value) {
            self.count_rung(job, trial, resource, value);
        }
    }

    /// Tells the scheduler a trial's result at its rung.
    pub(super) fn count_rung(
        &mut self,
        job: &JobId,
        trial: TrialId,
        resource: u64,
        value: Option<f64>,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let Some(rung) = found.scheduler.reaches(trial, resource) else {
            return;
        };
        found.scheduler.reached(trial, resource, value);
        self.log_search(job, SearchEntry::Rung { trial, rung, value });
        self.dirty = true;
    }

    /// An attempt has ended at the epoch until which it was to train.
    pub(super) fn until_reached(&mut self, at: &AttemptRef) {
        let (job, trial) = (&at.job, at.trial);
        let until = self.attempt(at).and_then(|attempt| attempt.until_epoch);
        // Nothing was reported there that counts.
        self.at_rung(job, trial, until.unwrap_or(0), None);
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        // Promoted while it was still on its way out, or never asked to end there.
        if until.is_none() || found.scheduler.until(trial) > until {
            let state = self.rests(job, trial);
            self.set_waiting(job, trial, state, "goes on from its checkpoint");
        } else if found.scheduler.at_top(trial) {
            let why = format!("has trained {} epochs, `max_resource`", until.unwrap_or(0));
            self.end_trial(job, trial, TrialState::Completed, String::new(), &why);
        } else {
            let place = found.scheduler.place(trial);
            let why = format!("waits at {place}: goes on once it is promoted");
            self.set_waiting(job, trial, TrialState::Paused, &why);
            self.check_job(job);
        }
    }

    /// Takes the scheduler's promotion. `None`: there is none, or the trial cannot be placed yet, because
    /// a person holds it or its attempt has not quite ended.
    pub(super) fn promote(&mut self, job: &JobId) -> Option<TrialId> {
        let found = self.jobs.get_mut(job)?;
        let trial = found.scheduler.promotable()?.trial;
        let promotion = found.scheduler.promote(trial)?;
        let running = found.running.contains(&trial);
        let rung = promotion.rung;
        self.log_search(job, SearchEntry::Promoted { trial, rung });
        self.explain(job, trial, Decision::Promoted, promotion.reason.clone());
        let free = !running && !self.held(job, trial);
        let found = self.jobs.get_mut(job)?;
        if free {
            found.set_state(trial, TrialState::Pending);
        }
        if let Some(known) = found.trial_mut(trial) {
            known.record.reason = promotion.reason;
        }
        self.draft.trials.insert((job.clone(), trial));
        self.draft.jobs.insert(job.clone());
        free.then_some(trial)
    }

    /// Ends the trials that wait at rungs: no promotion can come any more.
    pub(super) fn stop_waiting(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let waiting: Vec<TrialId> = found.paused.iter().copied().collect();
        for trial in waiting {
            let Some(found) = self.jobs.get(job) else {
                return;
            };
            let place = found.scheduler.place(trial);
            let why = format!("stopped at {place}: no promotion can come any more");
            let state = TrialState::Completed;
            self.finish_trial(job, trial, state, Decision::Stopped, String::new(), &why);
        }
    }
}
