//! Attempts and trials by their names, to be read or changed. Decides nothing.

use std::borrow::Cow;

use trainyard_common::ids::{JobId, TrialId, WorkerId};

use crate::cluster::Machine;
use crate::cluster::model::{
    AttemptRecord, AttemptRef, SessionId, TrialRecord, TrialState, Vacate,
};

impl Machine {
    /// The attempt, if it is known at this generation.
    pub(in crate::cluster) fn attempt(&self, at: &AttemptRef) -> Option<Cow<'_, AttemptRecord>> {
        self.numbered_attempt(at)
            .filter(|found| found.generation == at.generation)
    }

    /// The attempt of that number, whatever its generation.
    pub(in crate::cluster) fn numbered_attempt(
        &self,
        at: &AttemptRef,
    ) -> Option<Cow<'_, AttemptRecord>> {
        let job = self.jobs.get(&at.job)?;
        Some(match job.live(at.trial) {
            Some(trial) => Cow::Borrowed(trial.attempt(at.attempt)?),
            None => Cow::Owned(job.trial(at.trial)?.attempt(at.attempt)?.clone()),
        })
    }

    /// The attempt, to be changed and persisted.
    pub(in crate::cluster) fn attempt_mut(
        &mut self,
        at: &AttemptRef,
    ) -> Option<&mut AttemptRecord> {
        let trial = self.jobs.get_mut(&at.job)?.trial_mut(at.trial)?;
        let attempt = trial.attempt_mut(at.attempt)?;
        if attempt.generation != at.generation {
            return None;
        }
        self.draft
            .attempts
            .insert((at.job.clone(), at.trial, at.attempt));
        Some(attempt)
    }

    /// Changes a trial's record.
    pub(in crate::cluster) fn change_trial(
        &mut self,
        at: &AttemptRef,
        change: impl FnOnce(&mut TrialRecord),
    ) {
        let job = self.jobs.get_mut(&at.job);
        if let Some(trial) = job.and_then(|job| job.trial_mut(at.trial)) {
            change(&mut trial.record);
            self.draft.trials.insert((at.job.clone(), at.trial));
        }
    }

    pub(in crate::cluster) fn living(&self, job: &JobId, trial: TrialId) -> Option<AttemptRef> {
        let known = self.jobs.get(job)?.live(trial)?;
        let mut attempts = known.attempts.iter();
        let living = attempts.find(|attempt| attempt.outcome.is_none())?;
        Some(living.at())
    }

    /// Whether a person keeps the trial from going on.
    pub(in crate::cluster) fn held(&self, job: &JobId, trial: TrialId) -> bool {
        let Some(found) = self.jobs.get(job) else {
            return false;
        };
        let held = found.live(trial).map(|known| known.record.held);
        let held = held.or_else(|| found.trial(trial).map(|known| known.record.held));
        found.record.held || held.unwrap_or(false)
    }

    pub(in crate::cluster) fn state_of(&self, job: &JobId, trial: TrialId) -> Option<TrialState> {
        let slot = self.jobs.get(job)?.trials.get(trial.0 as usize)?;
        Some(slot.state())
    }

    /// Whether it was told to end.
    pub(in crate::cluster) fn is_stopped(&self, job: &JobId, trial: TrialId) -> bool {
        let known = self.jobs.get(job).and_then(|found| found.live(trial));
        known.is_some_and(|known| known.record.stopped)
    }

    /// What a trial came to until now.
    pub(in crate::cluster) fn best_value(&self, job: &JobId, trial: TrialId) -> Option<f64> {
        let slot = self.jobs.get(job)?.trials.get(trial.0 as usize)?;
        slot.best().map(|(value, _)| value)
    }

    pub(in crate::cluster) fn connected(&self, worker: &WorkerId) -> Option<SessionId> {
        self.workers.get(worker)?.session
    }

    /// Whether its scheduler makes the trial wait, and it has all that it needs to.
    pub(in crate::cluster) fn waits(&self, job: &JobId, trial: TrialId) -> bool {
        let found = self.jobs.get(job);
        found.is_some_and(|found| {
            let at_rung = found.scheduler.waits(trial).is_some() || found.held_back(trial);
            at_rung && found.kept_its_rung(trial)
        })
    }

    /// The state of a trial whose newest attempt has ended before its work was done.
    pub(in crate::cluster) fn rests(&self, job: &JobId, trial: TrialId) -> TrialState {
        let known = self.jobs.get(job).and_then(|job| job.live(trial));
        let newest = known.and_then(|trial| trial.attempts.last());
        match newest.and_then(|attempt| attempt.vacate) {
            Some(Vacate::Pause) => TrialState::Paused,
            _ if self.held(job, trial) || self.waits(job, trial) => TrialState::Paused,
            _ => TrialState::Pending,
        }
    }
}
