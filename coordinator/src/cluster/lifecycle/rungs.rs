//! What a scheduler decides, carried out: results at rungs, promotions, and who is stopped in the end.
//!
//! Which trial goes on is the scheduler's to say (`crate::schedule`). Each result and each promotion is an
//! entry of the job's search log, so that the same log gives the same decisions.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::{AttemptRef, Decision, SearchEntry, Told, TrialState};
use crate::schedule::Verdict;

impl Machine {
    /// A trial has reported a value at a resource. In a population it counts once the attempt has ended
    /// there: who copies the trial needs the checkpoint of that epoch, and it is still on its way.
    pub(in crate::cluster) fn told_value(
        &mut self,
        job: &JobId,
        trial: TrialId,
        resource: u64,
        value: f64,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if !found.scheduler.is_population() || found.scheduler.at_top(trial) {
            return self.at_rung(job, trial, resource, Some(value), false);
        }
        let counts = found.scheduler.reaches(trial, resource).is_some();
        if let Some(known) = found.trial_mut(trial).filter(|_| counts) {
            known.record.told = Some((resource, value));
            self.draft.trials.insert((job.clone(), trial));
        }
    }

    /// A trial's result at a resource, whose attempt may have ended there (`left`); it counts if it is the one
    /// that its rung waits for.
    fn at_rung(
        &mut self,
        job: &JobId,
        trial: TrialId,
        resource: u64,
        value: Option<f64>,
        left: bool,
    ) {
        let found = self.jobs.get(job);
        let counts = found.and_then(|found| found.scheduler.reaches(trial, resource));
        if counts.is_some() && !self.hold_rung(job, trial, value, left) {
            self.count_rung(job, trial, resource, value);
        }
    }

    /// Tells the scheduler a trial's result at its rung.
    pub(in crate::cluster) fn count_rung(
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
        found.mind.tell(Told::Reached {
            trial,
            resource,
            value,
        });
        let values = match (value, found.trial(trial)) {
            (Some(_), Some(known)) => known.record.values.clone(),
            _ => Vec::new(),
        };
        let verdict = found
            .scheduler
            .reached_with(trial, resource, value, &values);
        let place = found.scheduler.place(trial);
        let entry = SearchEntry::Rung {
            trial,
            rung,
            value,
            resource: Some(resource),
            values: values.clone(),
        };
        self.log_search(job, entry);
        self.dirty = true;
        if verdict == Verdict::Stop {
            let best = self.best_value(job, trial);
            self.stop_trial(
                job,
                trial,
                best,
                &format!("stopped at epoch {resource}: {place}"),
            );
        }
        self.stop_eliminated(job);
        self.logical_goal(job, trial, value, &values);
    }

    /// An attempt has ended at the epoch until which it was to train.
    pub(in crate::cluster) fn until_reached(&mut self, at: &AttemptRef) {
        let (job, trial) = (&at.job, at.trial);
        let until = self.attempt(at).and_then(|attempt| attempt.until_epoch);
        let found = self.jobs.get(job).and_then(|found| found.live(trial));
        let told = found.and_then(|known| known.record.told);
        // A program may skip epochs.
        let told = told.filter(|(resource, _)| Some(*resource) >= until);
        // Where nothing counted there until now, and nothing was told, it has no value.
        let value = told.map(|(_, value)| value);
        self.at_rung(job, trial, until.unwrap_or(0), value, true);
        if self.is_stopped(job, trial) {
            self.end_stopped(job, trial, "stopped");
            return;
        }
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
        } else if found.goes_no_further(trial) {
            let why = "has trained as far as it was to when it failed, and its scheduler has gone on without it";
            self.end_trial(job, trial, TrialState::Completed, String::new(), why);
        } else {
            let place = found.scheduler.place(trial);
            let why = format!("waits at {place}: goes on once it is promoted");
            self.set_waiting(job, trial, TrialState::Paused, &why);
            self.check_job(job);
        }
    }

    /// Takes the scheduler's promotion, which is [`settled`](Self::settled). `None`: there is none, or the trial
    /// cannot be placed yet, because a person holds it or its attempt has not quite ended.
    pub(in crate::cluster) fn promote(&mut self, job: &JobId) -> Option<TrialId> {
        let found = self.jobs.get_mut(job)?;
        let trial = found.scheduler.promotable()?.trial;
        let promotion = found.scheduler.promote(trial)?;
        found.mind.tell(Told::Promoted { trial });
        let running = found.running.contains(&trial);
        let entry = SearchEntry::Promoted {
            trial,
            rung: promotion.rung,
            params: promotion.params,
        };
        self.log_search(job, entry);
        self.explain(job, trial, Decision::Promoted, promotion.reason.clone());
        let free = !running && !self.held(job, trial);
        let found = self.jobs.get_mut(job)?;
        if free {
            found.set_state(trial, TrialState::Pending);
        }
        let mut retry_at_ms = 0;
        if let Some(known) = found.trial_mut(trial) {
            known.record.reason = promotion.reason;
            retry_at_ms = known.record.retry_at_ms;
        }
        self.draft.trials.insert((job.clone(), trial));
        self.draft.jobs.insert(job.clone());
        self.wake_at(retry_at_ms);
        free.then_some(trial)
    }

    /// Before a trial goes on: takes over the weights and hyperparameters that its scheduler has chosen for
    /// it since it was trained last.
    pub(in crate::cluster) fn adopt(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let lineage = found.scheduler.lineage(trial);
        let changes = u32::try_from(lineage.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let Some(newest) = lineage.last().cloned() else {
            return;
        };
        // Of several with so many complete epochs the oldest: those behind it were made on the way on from there, with
        // other hyperparameters perhaps, or another's weights.
        let copied = newest.source.and_then(|source| {
            let made = &found.trial(source)?.record.checkpoints;
            let mut made = made.iter();
            made.find(|made| made.epoch == newest.resource).cloned()
        });
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        let record = &mut known.record;
        if record.changes >= changes {
            return;
        }
        record.changes = changes;
        let before = std::mem::replace(&mut record.params, newest.params);
        record.suggested.get_or_insert(before);
        let lost = newest.source.is_some() && copied.is_none();
        record.copies = copied;
        self.draft.trials.insert((job.clone(), trial));
        if lost {
            let why = "the checkpoint to be copied is lost: goes on with its own weights";
            self.explain(job, trial, Decision::Resumed, why.to_owned());
        }
    }
}
