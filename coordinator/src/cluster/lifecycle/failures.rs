//! What a failed attempt leads to: the spec's policy for its kind.
//!
//! Decides between trying again, failing the trial and failing the job; how attempts end is not known
//! here.

use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::{FailureAction, FailureKind};

use crate::cluster::Machine;
use crate::cluster::lifecycle::losses::{MAX_LOSSES, pause_after_losses};
use crate::cluster::model::{Decision, JobState, TrialState, Vacate};

impl Machine {
    /// A training attempt has failed in this way: the policy says what becomes of its trial.
    pub(in crate::cluster) fn trial_failure(
        &mut self,
        job: &JobId,
        trial: TrialId,
        kind: FailureKind,
        error: &str,
    ) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let live = found.live(trial);
        if live.is_some_and(|known| known.record.stopped) {
            // It was to end anyway, and that has counted.
            self.end_stopped(job, trial, "stopped");
            return;
        }
        let asked = live.and_then(|known| known.attempts.last());
        if kind == FailureKind::Preempted && asked.and_then(|a| a.vacate) == Some(Vacate::Pause) {
            // Somebody has paused it: no failure of any kind.
            self.trial_interrupted(job, trial, kind, error);
            return;
        }
        if kind == FailureKind::Error
            && let Some(why) = self.fails_alike(job, trial, error)
        {
            let refused = "every configuration would meet the same error: not tried again";
            self.trial_failed(job, trial, kind, error, refused);
            self.fail_job(job, why);
            return;
        }
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        match found.document.job().failure_policy.action(kind) {
            FailureAction::Retry => self.trial_errored(job, trial, kind, error),
            FailureAction::RetryUncounted => self.trial_interrupted(job, trial, kind, error),
            FailureAction::FailTrial | FailureAction::FailJob => {
                let why = format!("{}: not tried again", told(kind));
                self.trial_refused(job, trial, kind, error, &why);
            }
        }
    }

    /// Fails a trial for good, and its job where the policy says so.
    pub(in crate::cluster) fn trial_refused(
        &mut self,
        job: &JobId,
        trial: TrialId,
        kind: FailureKind,
        error: &str,
        why: &str,
    ) {
        self.trial_failed(job, trial, kind, error, why);
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let action = found.document.job().failure_policy.action(kind);
        if action == FailureAction::FailJob && !found.record.state.ended() {
            let kind = kind.word();
            let error = format!("trial {trial} failed (failure_policy.{kind}: fail_job): {error}");
            self.stop_job(job, JobState::Failed, error);
        }
    }

    pub(in crate::cluster) fn trial_failed(
        &mut self,
        job: &JobId,
        trial: TrialId,
        kind: FailureKind,
        error: &str,
        why: &str,
    ) {
        let known = self.jobs.get_mut(job).and_then(|job| job.trial_mut(trial));
        if let Some(known) = known {
            known.record.failure = Some(kind);
        }
        self.end_trial(job, trial, TrialState::Failed, error.to_owned(), why);
    }

    /// Its data is missing or wrong. Where all trials share the data, the job fails with the first of
    /// them, unless another has trained on it: then something is wrong with this worker's view of it.
    pub(in crate::cluster) fn trial_without_data(
        &mut self,
        job: &JobId,
        trial: TrialId,
        error: &str,
    ) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let kind = FailureKind::Error;
        if !found.document.shares_data() {
            let why = "every try would meet the same data: not tried again";
            self.trial_failed(job, trial, kind, error, why);
        } else if found.has_trained() {
            self.trial_failure(job, trial, kind, error);
        } else {
            let why = "every trial of the job would meet the same data: not tried again";
            self.trial_failed(job, trial, kind, error, why);
            self.fail_job(job, format!("trial {trial}: {error}"));
        }
    }

    /// Fails a job that has not ended.
    fn fail_job(&mut self, job: &JobId, error: String) {
        let found = self.jobs.get(job);
        if found.is_some_and(|job| !job.record.state.ended()) {
            self.stop_job(job, JobState::Failed, error);
        }
    }

    /// Tries again after a pause, at most `max_restarts` times.
    fn trial_errored(&mut self, job: &JobId, trial: TrialId, kind: FailureKind, error: &str) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let (most, backoff) = {
            let spec = found.document.job();
            (spec.max_restarts, spec.retry_backoff)
        };
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        if known.record.restarts >= most {
            let why = format!("failed after {most} restarts");
            self.trial_failed(job, trial, kind, error, &why);
            return;
        }
        let pause = backoff.pause_ms(known.record.restarts);
        known.record.restarts += 1;
        let why = format!(
            "restart {} of {most}, after a pause of {pause} ms: {}",
            known.record.restarts,
            if error.is_empty() { told(kind) } else { error }
        );
        self.trial_waits(job, trial, pause, Decision::Retried, why);
    }

    /// Not counted against the trial: it goes on at once, but for failures in a row without a new
    /// checkpoint. A preemption is decided by others, so that it is no sign of anything.
    fn trial_interrupted(&mut self, job: &JobId, trial: TrialId, kind: FailureKind, error: &str) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let backoff = found.document.job().retry_backoff;
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        let mut pause = 0;
        if kind != FailureKind::Preempted {
            known.record.losses += 1;
            let losses = known.record.losses;
            if losses > MAX_LOSSES {
                let last = match (kind, error) {
                    (FailureKind::NodeLost, _) | (_, "") => told(kind).to_owned(),
                    (_, error) => error.to_owned(),
                };
                let error = format!(
                    "{last}, for the {losses}th time in a row without a new checkpoint: the trial may \
                     be what causes it (memory?)"
                );
                let why = "interrupted too often: not tried again";
                self.trial_failed(job, trial, kind, &error, why);
                return;
            }
            pause = pause_after_losses(&backoff, losses);
        }
        let asked = known.attempts.last().and_then(|attempt| attempt.vacate);
        let (decision, what) = match (kind, asked) {
            (FailureKind::Preempted, Some(Vacate::Pause)) => (Decision::Paused, "paused"),
            (FailureKind::Preempted, Some(Vacate::Preempt)) => (Decision::Preempted, "preempted"),
            (FailureKind::Preempted, _) => (Decision::Drained, "its worker leaves"),
            (FailureKind::NodeLost, _) => (Decision::Lost, told(kind)),
            // It says for how long, and what is allowed.
            (FailureKind::Hung, _) if !error.is_empty() => (Decision::Hung, error),
            (FailureKind::Hung, _) => (Decision::Hung, told(kind)),
            _ => (Decision::Retried, told(kind)),
        };
        let from = match known.record.checkpoints.last() {
            Some(checkpoint) => format!("from the checkpoint of step {}", checkpoint.step),
            None => "from the beginning".to_owned(),
        };
        let why = format!("{what}; goes on {from}");
        self.trial_waits(job, trial, pause, decision, why);
    }

    fn trial_waits(
        &mut self,
        job: &JobId,
        trial: TrialId,
        pause: u64,
        what: Decision,
        why: String,
    ) {
        let retry_at_ms = self.now + pause;
        let state = self.rests(job, trial);
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, state);
        if let Some(known) = found.trial_mut(trial) {
            known.record.retry_at_ms = retry_at_ms;
            known.record.reason.clone_from(&why);
        }
        self.explain(job, trial, what, why);
        self.draft.trials.insert((job.clone(), trial));
        self.wake_at(retry_at_ms);
        if state == TrialState::Paused {
            // It may have been the last one that was under way.
            self.check_job(job);
        }
    }
}

/// What happened, in a sentence.
fn told(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Preempted => "preempted",
        FailureKind::NodeLost => "its worker was lost",
        FailureKind::Hung => "it made no progress",
        FailureKind::OutOfMemory => "it ran out of memory",
        FailureKind::Nan => "its loss was not a number",
        FailureKind::Infeasible => "its configuration cannot be",
        FailureKind::Error => "it ended with an error",
    }
}
