//! Trying failed trials again once their program is mended, in a job that has failed with them, too.
//!
//! What has counted stays. The search log says that a trial is tried again, and its new end then counts in place of
//! the old one for the searcher. A scheduler has gone on without it: it trains as far as it was to, and no further.

use trainyard_common::ids::{JobId, RequestId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::lifecycle::requests::fnv1a;
use crate::cluster::model::{Decision, Job, JobState, SearchEntry, TrialSlot, TrialState};

impl Machine {
    /// Tries a failed trial again, or all of them. Each request id acts once.
    pub(in crate::cluster) fn retry(
        &mut self,
        request: &RequestId,
        job: &JobId,
        trial: Option<TrialId>,
    ) -> Result<(), Rejection> {
        let number = trial.map_or_else(String::new, |trial| trial.to_string());
        let digest = fnv1a(["retry", job.as_str(), &number]);
        if self.known_request(request, digest)?.is_none() {
            let again = self.to_retry(job, trial);
            if again.is_err() {
                self.rest(job);
            }
            let again = again?;
            self.try_again(job, &again);
            self.remember(request, digest, job);
        }
        let Some(found) = self.jobs.get(job) else {
            return Err(self.missing(job, "its trials can no longer be tried again"));
        };
        let at = trial.and_then(|trial| found.trials.get(trial.0 as usize));
        let reply = Reply::Held {
            job: job.clone(),
            state: found.record.state,
            trial: at.map(TrialSlot::state),
        };
        self.reply(reply);
        Ok(())
    }

    /// The trials that are to be tried again, or why they cannot be.
    fn to_retry(&self, job: &JobId, trial: Option<TrialId>) -> Result<Vec<TrialId>, Rejection> {
        let Some(found) = self.jobs.get(job) else {
            return Err(self.missing(job, "its trials can no longer be tried again"));
        };
        self.not_leaving(found, "try its trials again")?;
        let refused = |message: String| Rejection::Retry {
            job: job.clone(),
            message,
        };
        let lost = if found.is_logical() {
            Some("in logical time a result cannot come after others that it comes before")
        } else if found.scheduler.is_population() {
            Some("its population has gone on without them")
        } else if found.record.state == JobState::Cancelled {
            Some("it was cancelled")
        } else {
            None
        };
        if let Some(why) = lost {
            return Err(refused(why.to_owned()));
        }
        let failed = found.failed_trials();
        match trial {
            Some(trial) if trial.0 as usize >= found.trials.len() => {
                return Err(Rejection::UnknownTrial {
                    job: job.clone(),
                    trial,
                });
            }
            Some(trial) if !failed.contains(&trial) => {
                return Err(refused(format!("trial {trial} has not failed")));
            }
            None if failed.is_empty() => {
                return Err(refused("none of its trials has failed".to_owned()));
            }
            _ => {}
        }
        if found.mind.rests() {
            return Err(Rejection::Asleep(job.clone()));
        }
        if found.mind.loads() {
            return Err(Rejection::Loading(job.clone()));
        }
        let mut again = trial.map_or(failed, |trial| vec![trial]);
        if found.record.state == JobState::Failed {
            // What was cancelled with the job had not ended for the search.
            again.extend(found.in_state(TrialState::Cancelled));
        }
        Ok(again)
    }

    fn try_again(&mut self, job: &JobId, trials: &[TrialId]) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let (before, now) = (found.record.state, self.now);
        let record = &mut found.record;
        if before == JobState::Failed {
            record.error.clear();
            if std::mem::take(&mut record.held) {
                record.held_ms += now.saturating_sub(record.held_since_ms);
            }
        }
        record.alike = None;
        let closed = record.search_closed.clone();
        for trial in trials {
            self.wait_again(job, *trial);
        }
        if before.ended() || before == JobState::Evaluating {
            self.open_again(job);
            // A search that came to its end by itself does not go on; one that was cut off does.
            if let Some(found) = self
                .jobs
                .get_mut(job)
                .filter(|_| before != JobState::Failed)
            {
                found.record.search_closed = closed;
            }
        }
        self.draft.jobs.insert(job.clone());
        self.dirty = true;
    }

    /// The trial waits for slots as if it had not ended, and goes on from its checkpoint.
    fn wait_again(&mut self, job: &JobId, trial: TrialId) {
        let counted = self.state_of(job, trial) == Some(TrialState::Failed);
        if counted {
            self.log_search(job, SearchEntry::Retried { trial });
        }
        let why = match counted {
            true => "tried again: somebody asked for it",
            false => "goes on: its job was taken up again",
        };
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, TrialState::Pending);
        if let Some(known) = found.trial_mut(trial) {
            let record = &mut known.record;
            record.again |= counted;
            record.failure = None;
            record.error.clear();
            record.restarts = 0;
            record.losses = 0;
            record.retry_at_ms = 0;
            record.ended_ms = 0;
            record.held = false;
            why.clone_into(&mut record.reason);
        }
        self.draft.trials.insert((job.clone(), trial));
        self.explain(job, trial, Decision::Retried, why.to_owned());
    }
}

impl Job {
    fn failed_trials(&self) -> Vec<TrialId> {
        self.in_state(TrialState::Failed)
    }

    fn in_state(&self, state: TrialState) -> Vec<TrialId> {
        let trials = (0u32..).zip(&self.trials);
        let found = trials.filter(|(_, slot)| slot.state() == state);
        found.map(|(number, _)| TrialId(number)).collect()
    }
}
