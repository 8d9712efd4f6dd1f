//! How a try at judging the winner has ended, and what follows.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::lifecycle::losses::{MAX_LOSSES, pause_after_losses};
use crate::cluster::model::{Decision, JobState, Outcome};

impl Machine {
    /// An evaluation attempt has ended.
    pub(in crate::cluster) fn after_judging(&mut self, job: &JobId, outcome: Outcome, error: &str) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let (most, backoff) = {
            let spec = found.document.job();
            (spec.max_restarts, spec.retry_backoff)
        };
        let Some(evaluation) = &found.record.evaluation else {
            return;
        };
        self.draft.jobs.insert(job.clone());
        let trial = evaluation.trial;
        self.explain(job, trial, Decision::Judged, judged(outcome, error));
        let Some(evaluation) = self
            .jobs
            .get_mut(job)
            .and_then(|found| found.record.evaluation.as_mut())
        else {
            return;
        };
        match outcome {
            Outcome::Completed => self.end_job(job, JobState::Completed, String::new()),
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Error
                if evaluation.restarts >= most
                    || matches!(outcome, Outcome::Nan | Outcome::Infeasible) =>
            {
                let error = format!(
                    "trial {} won, but could not be judged on the test part: {error}",
                    evaluation.trial
                );
                self.end_job(job, JobState::Failed, error);
            }
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Error => {
                evaluation.retry_at_ms = now + backoff.pause_ms(evaluation.restarts);
                evaluation.restarts += 1;
            }
            Outcome::NodeLost | Outcome::Hung if evaluation.losses >= MAX_LOSSES => {
                let error = format!(
                    "trial {} won, but could not be judged on the test part: its worker was lost {} \
                     times in a row",
                    evaluation.trial,
                    evaluation.losses + 1
                );
                self.end_job(job, JobState::Failed, error);
            }
            Outcome::NodeLost | Outcome::Hung => {
                evaluation.losses += 1;
                evaluation.retry_at_ms = now + pause_after_losses(&backoff, evaluation.losses);
            }
            Outcome::Preempted | Outcome::Paused => evaluation.retry_at_ms = now,
            Outcome::Cancelled | Outcome::Stopped => {}
        }
        let retry = self
            .jobs
            .get(job)
            .and_then(|job| job.record.evaluation.as_ref());
        if let Some(at) = retry.map(|evaluation| evaluation.retry_at_ms) {
            self.wake_at(at);
        }
    }
}

/// How a try at judging ended, in a sentence.
fn judged(outcome: Outcome, error: &str) -> String {
    match (outcome, error) {
        (Outcome::Completed, _) => "judged on the test part".to_owned(),
        (outcome, "") => format!("the judging ended as {outcome:?}"),
        (outcome, error) => format!("the judging ended as {outcome:?}: {error}"),
    }
}
