//! The state of one trial: waiting, or ended and counted. What ends with it is not known here.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::{Decision, SearchEntry, Told, TrialState};
use crate::search;
use crate::search::Observation;

impl Machine {
    /// The trial alone.
    pub(in crate::cluster) fn finish_trial(
        &mut self,
        job: &JobId,
        trial: TrialId,
        state: TrialState,
        what: Decision,
        error: String,
        why: &str,
    ) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, state);
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        known.record.ended_ms = now;
        let told = match error.is_empty() {
            true => why.to_owned(),
            false => format!("{why}: {error}"),
        };
        known.record.error = error;
        why.clone_into(&mut known.record.reason);
        let value = known.record.best.map(|(value, _)| value);
        self.draft.trials.insert((job.clone(), trial));
        self.draft.jobs.insert(job.clone());
        let failed = known.record.failure;
        let counted = known.record.stopped;
        let outcome = match state {
            TrialState::Completed if what == Decision::Stopped => {
                search::Outcome::Stopped { value }
            }
            TrialState::Completed => search::Outcome::Completed { value },
            TrialState::Failed => failed.map_or(search::Outcome::Failed, Into::into),
            _ => search::Outcome::Cancelled,
        };
        self.explain(job, trial, what, told);
        if !counted && !self.hold_end(job, trial, outcome.clone()) {
            self.count_end(job, trial, outcome);
        }
    }

    /// Tells searcher and scheduler how a trial ended.
    pub(in crate::cluster) fn count_end(
        &mut self,
        job: &JobId,
        trial: TrialId,
        outcome: search::Outcome,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let values = match (outcome.value(), found.trial(trial)) {
            (Some(_), Some(known)) => known.record.values.clone(),
            _ => Vec::new(),
        };
        if found.mind.rests() {
            return;
        }
        let observation = Observation {
            trial,
            outcome,
            values,
        };
        found.mind.tell(Told::Observed(observation.clone()));
        let (value, values) = (observation.outcome.value(), &observation.values);
        found.scheduler.ended_with(trial, value, values);
        self.log_search(job, SearchEntry::Observed(observation));
    }

    /// Moves a trial without slots between `Pending` and `Paused`.
    pub(in crate::cluster) fn set_waiting(
        &mut self,
        job: &JobId,
        trial: TrialId,
        state: TrialState,
        why: &str,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, state);
        let mut retry_at_ms = u64::MAX;
        if let Some(known) = found.trial_mut(trial) {
            why.clone_into(&mut known.record.reason);
            retry_at_ms = known.record.retry_at_ms;
        }
        if state == TrialState::Pending {
            // What is paused has no deadline: its pause after a failure may still last.
            self.wake_at(retry_at_ms);
        }
        self.draft.trials.insert((job.clone(), trial));
        self.draft.jobs.insert(job.clone());
        let what = match state {
            TrialState::Paused => Decision::Paused,
            _ => Decision::Resumed,
        };
        self.explain(job, trial, what, why.to_owned());
        self.dirty = true;
    }
}
