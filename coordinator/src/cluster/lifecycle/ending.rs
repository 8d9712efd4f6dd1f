//! How a trial ends with what ends with it, and how a job ends before its search has.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::lifecycle::search::last_error;
use crate::cluster::model::{AttemptKind, AttemptRecord, Decision, JobState, Outcome, TrialState};

impl Machine {
    /// Ends a trial for good, tells the searcher, and ends what ends with it.
    pub(in crate::cluster) fn end_trial(
        &mut self,
        job: &JobId,
        trial: TrialId,
        state: TrialState,
        error: String,
        why: &str,
    ) {
        let what = match state {
            TrialState::Completed => Decision::Completed,
            TrialState::Failed => Decision::Failed,
            _ => Decision::Cancelled,
        };
        self.finish_trial(job, trial, state, what, error, why);
        if state == TrialState::Failed {
            self.forget_best(job, trial);
            self.check_failures(job);
        }
        self.stop_eliminated(job);
        self.check_job(job);
    }

    fn check_failures(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let failed = found.counts.failed;
        let most = found.document.job().max_failed_trials;
        if !found.record.state.ended() && most.is_some_and(|most| failed >= most.max(1)) {
            let error = format!(
                "{failed} trials failed (max_failed_trials); {}",
                last_error(found)
            );
            self.stop_job(job, JobState::Failed, error);
        }
    }

    /// Ends a job before its search has: every trial that has not ended is cancelled.
    pub(in crate::cluster) fn stop_job(&mut self, job: &JobId, state: JobState, error: String) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let why = match state {
            JobState::Cancelled => "the job was cancelled",
            _ => "the job failed",
        };
        let judged = found.record.evaluation.as_ref().map(|e| e.trial);
        // First, so that the last trial to end does not end the search.
        found.record.state = state;
        found.mind.rest();
        for trial in found.open() {
            self.end_live_attempt(job, trial, why);
            self.end_trial(job, trial, TrialState::Cancelled, String::new(), why);
        }
        if let Some(trial) = judged {
            self.end_live_attempt(job, trial, why);
        }
        self.end_job(job, state, error);
    }

    pub(in crate::cluster) fn end_live_attempt(&mut self, job: &JobId, trial: TrialId, why: &str) {
        let attempts = self.jobs.get(job).and_then(|found| found.live(trial));
        let live = attempts.and_then(|trial| trial.attempts.iter().find(|a| a.outcome.is_none()));
        if let Some(at) = live.map(AttemptRecord::at) {
            let ended = self.close_attempt(&at, Outcome::Cancelled, "", why);
            // Whoever cancels sets the trial's state.
            if ended.is_some_and(|ended| ended.kind == AttemptKind::Evaluate) {
                self.after_judging(job, Outcome::Cancelled, "");
            }
        }
    }
}
