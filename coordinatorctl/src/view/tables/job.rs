//! Tables and descriptions of jobs and what came of them.

use std::fmt::Write as _;

use super::parts::{field, finish, metrics, table};
use super::trial::trials;
use crate::view::output::{Best, Job, JobDetail, JobResult};
use crate::view::text;

pub(crate) fn jobs(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let mut table = table([
        "JOB",
        "STATE",
        "TRIALS",
        "BEST",
        "OBJECTIVE",
        "SUBMITTED",
        "TIME",
    ]);
    for job in jobs {
        table.add_row([
            job.job_id.clone(),
            job.state.to_owned(),
            trials_done(job),
            text::maybe(job.best_value),
            job.objective.clone().unwrap_or_else(|| "-".to_owned()),
            text::maybe_moment(job.submitted_ms),
            text::between(job.started_ms, job.ended_ms),
        ]);
    }
    finish(&table)
}

/// `7/10`: trials that have ended, of those expected.
pub(crate) fn trials_done(job: &Job) -> String {
    let ended = job.trials_completed + job.trials_failed + job.trials_cancelled;
    let known = ended + job.trials_running + job.trials_pending + job.trials_paused;
    format!("{ended}/{}", job.trials_expected.unwrap_or(known))
}

pub(crate) fn job(job: &Job) -> String {
    let mut text = String::new();
    field(&mut text, "job", &job.job_id);
    field(&mut text, "state", job.state);
    field(&mut text, "error", job.error.as_deref().unwrap_or(""));
    field(&mut text, "note", job.note.as_deref().unwrap_or(""));
    field(&mut text, "workspace", &job.workspace);
    field(&mut text, "priority", &job.priority.to_string());
    field(
        &mut text,
        "submitted",
        &text::maybe_moment(job.submitted_ms),
    );
    field(&mut text, "started", &text::maybe_moment(job.started_ms));
    field(&mut text, "ended", &text::maybe_moment(job.ended_ms));
    let trials = format!(
        "{} done: {} completed, {} failed, {} cancelled, {} running, {} paused, {} pending",
        trials_done(job),
        job.trials_completed,
        job.trials_failed,
        job.trials_cancelled,
        job.trials_running,
        job.trials_paused,
        job.trials_pending
    );
    field(&mut text, "trials", &trials);
    if let Some(metric) = &job.objective {
        let mode = if job.maximize { "maximize" } else { "minimize" };
        field(&mut text, "objective", &format!("{mode} {metric}"));
    }
    field(&mut text, "searcher", job.searcher.as_deref().unwrap_or(""));
    if let Some(trial) = job.best_trial {
        let line = format!("{} by trial {trial}", text::maybe(job.best_value));
        field(&mut text, "best", &line);
    }
    field(&mut text, "test", &metrics(&job.test_metrics));
    field(
        &mut text,
        "checkpoints",
        job.checkpoint_url.as_deref().unwrap_or(""),
    );
    text.trim_end().to_owned()
}

pub(crate) fn job_detail(detail: &JobDetail) -> String {
    format!("{}\n\n{}", job(&detail.job), trials(&detail.trials))
}

pub(crate) fn best(best: &Best) -> String {
    let mut text = String::new();
    let trial = format!("{} of {}", best.trial.trial_id, best.job_id);
    field(&mut text, "trial", &trial);
    if let Some(metric) = &best.objective {
        field(&mut text, metric, &text::maybe(best.value));
    }
    field(&mut text, "parameters", &text::pairs(&best.trial.params));
    field(&mut text, "test", &metrics(&best.test_metrics));
    if let Some(checkpoint) = &best.checkpoint {
        let url = best.checkpoint_url.as_deref().unwrap_or("");
        let place = format!("{}/{}", url.trim_end_matches('/'), checkpoint.manifest);
        field(&mut text, "checkpoint", &place);
    }
    text.trim_end().to_owned()
}

/// The end of `run`: trials, winner, test metrics.
pub(crate) fn result(result: &JobResult) -> String {
    let mut text = trials(&result.trials);
    if let Some(winner) = &result.best {
        let _ = write!(text, "\n\nbest configuration\n{}", best(winner));
    }
    text
}
