//! Pausing and resuming by people: of a job, and of one trial. Each request id acts once.
//!
//! What people hold (`held`) is stored apart from what a scheduler makes wait, so that resuming one
//! does not undo the other.

use trainyard_common::ids::{JobId, RequestId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::lifecycle::requests::fnv1a;
use crate::cluster::model::{AttemptRef, Decision, Job, JobState, TrialSlot, TrialState, Vacate};

/// What a person asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Pause,
    Resume,
}

impl Ask {
    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

impl Machine {
    pub(in crate::cluster) fn pause(
        &mut self,
        request: &RequestId,
        job: &JobId,
        trial: Option<TrialId>,
    ) -> Result<(), Rejection> {
        self.hold(request, job, trial, Ask::Pause)
    }

    pub(in crate::cluster) fn resume(
        &mut self,
        request: &RequestId,
        job: &JobId,
        trial: Option<TrialId>,
    ) -> Result<(), Rejection> {
        self.hold(request, job, trial, Ask::Resume)
    }

    fn hold(
        &mut self,
        request: &RequestId,
        job: &JobId,
        trial: Option<TrialId>,
        ask: Ask,
    ) -> Result<(), Rejection> {
        let number = trial.map_or_else(String::new, |trial| trial.to_string());
        let digest = fnv1a([ask.name(), job.as_str(), &number]);
        let known = self.known_request(request, digest)?;
        self.may_hold(job, trial, known.is_some(), ask)?;
        if known.is_none() {
            match (ask, trial) {
                (Ask::Pause, None) => self.pause_job(job),
                (Ask::Resume, None) => self.resume_job(job),
                (Ask::Pause, Some(trial)) => self.pause_trial(job, trial),
                (Ask::Resume, Some(trial)) => self.resume_trial(job, trial),
            }
            self.remember(request, digest, job);
            self.dirty = true;
        }
        if let Some(found) = self.jobs.get(job) {
            let at = trial.and_then(|trial| found.trials.get(trial.0 as usize));
            let reply = Reply::Held {
                job: job.clone(),
                state: found.record.state,
                trial: at.map(TrialSlot::state),
            };
            self.reply(reply);
        }
        Ok(())
    }

    /// What has ended cannot be held. A request that acted before is answered all the same.
    fn may_hold(
        &self,
        job: &JobId,
        trial: Option<TrialId>,
        acted: bool,
        ask: Ask,
    ) -> Result<(), Rejection> {
        let Some(found) = self.jobs.get(job) else {
            return Err(self.missing(job, "there is nothing left to pause or resume"));
        };
        let slot =
            match trial {
                None => None,
                Some(trial) => Some(found.trials.get(trial.0 as usize).ok_or_else(|| {
                    Rejection::UnknownTrial {
                        job: job.clone(),
                        trial,
                    }
                })?),
            };
        let ended = found.record.state.ended() || slot.is_some_and(|slot| slot.state().ended());
        if ended && !acted {
            let what = match trial {
                Some(trial) => format!("trial {trial} of {job}"),
                None => job.to_string(),
            };
            let ask = ask.name();
            return Err(Rejection::Ended { what, ask });
        }
        Ok(())
    }

    fn pause_job(&mut self, job: &JobId) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.record.held {
            return;
        }
        found.record.held = true;
        found.record.held_since_ms = now;
        found.record.state = JobState::Paused;
        found.record.note = "paused: `resume` lets it go on".to_owned();
        self.draft.jobs.insert(job.clone());
        let judged = found.record.evaluation.as_ref().map(|e| e.trial);
        let waiting: Vec<TrialId> = found.pending.iter().copied().collect();
        let running: Vec<TrialId> = found.running.iter().copied().chain(judged).collect();
        for trial in waiting {
            self.set_waiting(job, trial, TrialState::Paused, "the job was paused");
        }
        for trial in running {
            self.vacate_trial(job, trial, "the job was paused");
        }
    }

    fn resume_job(&mut self, job: &JobId) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if !found.record.held {
            return;
        }
        let record = &mut found.record;
        record.held = false;
        record.held_ms += now.saturating_sub(record.held_since_ms);
        record.note.clear();
        record.state = match (&record.evaluation, record.started_ms) {
            (Some(_), _) => JobState::Evaluating,
            (None, 0) => JobState::Pending,
            (None, _) => JobState::Running,
        };
        self.draft.jobs.insert(job.clone());
        let judged = found.record.evaluation.as_ref().map(|e| e.trial);
        let open: Vec<TrialId> = found.open().into_iter().chain(judged).collect();
        for trial in open {
            self.release_trial(job, trial, "the job was resumed");
        }
        let at = self.jobs.get(job).map_or(u64::MAX, Job::search_ends_ms);
        self.wake_at(at);
        self.check_job(job);
    }

    fn pause_trial(&mut self, job: &JobId, trial: TrialId) {
        let why = "the trial was paused";
        self.set_held(job, trial, true);
        match self.state_of(job, trial) {
            Some(TrialState::Pending) => self.set_waiting(job, trial, TrialState::Paused, why),
            Some(TrialState::Running) => self.vacate_trial(job, trial, why),
            _ => self.explain(job, trial, Decision::Paused, why.to_owned()),
        }
    }

    fn resume_trial(&mut self, job: &JobId, trial: TrialId) {
        self.set_held(job, trial, false);
        self.release_trial(job, trial, "the trial was resumed");
        // It may have been what kept the search from ending.
        self.check_job(job);
    }

    /// Lets a paused trial wait for slots again, unless something else holds it.
    fn release_trial(&mut self, job: &JobId, trial: TrialId, why: &str) {
        if self.held(job, trial) {
            return;
        }
        // On its way to a pause: it makes its checkpoint, and then waits for its scheduler or for slots.
        let vacated = self.vacated_for_pause(job, trial);
        if let Some(attempt) = vacated.as_ref().and_then(|at| self.attempt_mut(at)) {
            attempt.vacate = Some(Vacate::Preempt);
        }
        if self.waits(job, trial) {
            let why = format!("{why}; waits until its scheduler promotes it");
            self.explain(job, trial, Decision::Resumed, why);
        } else if self.state_of(job, trial) == Some(TrialState::Paused) {
            self.set_waiting(job, trial, TrialState::Pending, why);
        } else if vacated.is_some() {
            self.explain(job, trial, Decision::Resumed, why.to_owned());
        }
    }

    fn set_held(&mut self, job: &JobId, trial: TrialId, held: bool) {
        let found = self.jobs.get_mut(job);
        if let Some(known) = found.and_then(|found| found.trial_mut(trial)) {
            known.record.held = held;
            self.draft.trials.insert((job.clone(), trial));
        }
    }

    fn vacate_trial(&mut self, job: &JobId, trial: TrialId, why: &str) {
        if let Some(at) = self.living(job, trial) {
            self.vacate(&at, Vacate::Pause, why);
        }
    }

    fn vacated_for_pause(&self, job: &JobId, trial: TrialId) -> Option<AttemptRef> {
        let at = self.living(job, trial)?;
        let asked = self.attempt(&at)?.vacate;
        (asked == Some(Vacate::Pause)).then_some(at)
    }
}
