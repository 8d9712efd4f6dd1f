//! How a job ended: shared by the verbs that wait for it.

use trainyard_proto::v1::{JobState, JobSummary, TrialState, TrialSummary};

use crate::connect::Client;
use crate::exit::{Failure, Outcome};
use crate::view::convert;
use crate::view::output::JobResult;

pub(crate) async fn fetch(client: &Client, job_id: &str) -> Outcome<JobResult> {
    let (job, _) = client.job(job_id).await?;
    let trials = client.trials(job_id).await?;
    Ok(result(&job, &trials))
}

fn result(job: &JobSummary, trials: &[TrialSummary]) -> JobResult {
    JobResult {
        job: convert::job(job),
        trials: trials.iter().map(convert::trial).collect(),
        best: convert::best(job, trials),
    }
}

/// Success for a completed job; otherwise the failure with its reason.
pub(crate) fn verdict(result: &JobResult) -> Outcome {
    let job = &result.job;
    if job.state == convert::job_state(JobState::Completed) {
        return Ok(());
    }
    let mut reason = job.error.clone().unwrap_or_default();
    let failed = convert::trial_state(TrialState::Failed);
    let first = result.trials.iter().find(|trial| trial.state == failed);
    if let Some((id, error)) = first.and_then(|trial| Some((trial.trial_id, trial.error.as_ref()?)))
        && !reason.contains(error.as_str())
    {
        let gap = if reason.is_empty() { "" } else { "; " };
        reason.push_str(&format!("{gap}trial {id}: {error}"));
    }
    let colon = if reason.is_empty() { "" } else { ": " };
    Err(Failure::failed(format!(
        "{} {}{colon}{reason}",
        job.job_id, job.state
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn job(state: JobState, error: &str) -> JobSummary {
        JobSummary {
            job_id: "digits-1".into(),
            state: state as i32,
            error: error.into(),
            ..Default::default()
        }
    }

    fn trial(trial_id: u32, state: TrialState, error: &str) -> TrialSummary {
        TrialSummary {
            trial_id,
            state: state as i32,
            error: error.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_failed_job_says_the_first_failure() {
        let trials = [
            trial(0, TrialState::Completed, ""),
            trial(
                1,
                TrialState::Failed,
                "data.csv: line 4: 2 fields, expected 3",
            ),
            trial(2, TrialState::Failed, "another"),
        ];
        let completed = result(&job(JobState::Completed, ""), &trials);
        assert_eq!(verdict(&completed), Ok(()));
        let failed = result(&job(JobState::Failed, "every trial failed"), &trials);
        let failure = verdict(&failed).unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert_eq!(
            failure.message,
            "digits-1 failed: every trial failed; trial 1: data.csv: line 4: 2 fields, expected 3"
        );
        let cancelled = result(&job(JobState::Cancelled, ""), &[]);
        assert_eq!(
            verdict(&cancelled).unwrap_err().message,
            "digits-1 cancelled"
        );
    }
}
