//! What an attempt's end leads to.
//!
//! The one place that knows the order: a failure is judged by the spec's policy, then the trial ends with
//! what ends with it, or its rung says whether it goes on. Whoever ends an attempt hands on what it became.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::lifecycle::attempts::Ended;
use crate::cluster::model::{AttemptKind, AttemptRef, Outcome, TrialState};

impl Machine {
    /// Takes in how an attempt has ended.
    pub(in crate::cluster) fn conclude(&mut self, ended: Option<Ended>) {
        let Some(ended) = ended else { return };
        match ended.kind {
            AttemptKind::Train => self.after_training(&ended.at, ended.outcome, &ended.error),
            AttemptKind::Evaluate => self.after_judging(&ended.at.job, ended.outcome, &ended.error),
        }
    }

    fn after_training(&mut self, at: &AttemptRef, outcome: Outcome, error: &str) {
        let (job, trial) = (&at.job, at.trial);
        match outcome {
            Outcome::Completed => {
                self.remark_on_end(at);
                self.trial_completed(job, trial);
            }
            Outcome::Paused => {
                self.remark_on_end(at);
                self.until_reached(at);
            }
            Outcome::DataInvalid => self.trial_without_data(job, trial, error),
            // Whoever cancels sets the trial's state.
            Outcome::Cancelled => {}
            _ => {
                if let Some(kind) = outcome.failure() {
                    self.trial_failure(job, trial, kind, error);
                }
            }
        }
    }

    fn trial_completed(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let valued = found
            .live(trial)
            .is_some_and(|trial| trial.record.best.is_some());
        let why = match found.objective() {
            Some(objective) if !valued => {
                format!(
                    "completed without a finite value of `{}` at the end of an epoch",
                    objective.metric
                )
            }
            _ => "completed".to_owned(),
        };
        self.end_trial(job, trial, TrialState::Completed, String::new(), &why);
    }
}
