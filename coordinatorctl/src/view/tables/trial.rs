//! Tables and descriptions of trials, their curves and logs.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::parts::{
    field, finish, metrics, parameter_cells, parameter_header, parameter_names, table, with_header,
};
use crate::view::output::{Attempt, Explanation, LogLine, Trial, TrialDetail};
use crate::view::text;

/// Points of a learning curve that `trial describe` shows, the newest.
const CURVE_POINTS: usize = 40;

pub(crate) fn trials(trials: &[Trial]) -> String {
    if trials.is_empty() {
        return "no trials yet".to_owned();
    }
    let names = parameter_names(trials.iter().map(|trial| &trial.params));
    let mut header = vec!["TRIAL".to_owned(), "STATE".to_owned()];
    header.extend(parameter_header(&names));
    header.extend(["BEST", "EPOCHS", "TIME", "RESTARTS"].map(str::to_owned));
    let failed = trials.iter().any(|trial| trial.error.is_some());
    header.extend(failed.then(|| "ERROR".to_owned()));
    let mut table = with_header(&header);
    for trial in trials {
        let mut row = vec![trial.trial_id.to_string(), state(trial).into_owned()];
        row.extend(parameter_cells(&names, &trial.params));
        row.extend([
            text::maybe(trial.best_value),
            epochs(trial),
            text::between(trial.started_ms, trial.ended_ms),
            trial.restarts.to_string(),
        ]);
        row.extend(failed.then(|| trial.error.clone().unwrap_or_default()));
        table.add_row(row);
    }
    finish(&table)
}

/// A trial's state, and of a failed one of which kind it was where that has a name of its own, as the failure
/// policies have.
pub(crate) fn state(trial: &Trial) -> Cow<'static, str> {
    let last = trial.attempts.last().and_then(|attempt| attempt.outcome);
    match last {
        Some(kind) if trial.state == "failed" && !matches!(kind, "error" | "completed") => {
            Cow::Owned(format!("failed ({kind})"))
        }
        _ => Cow::Borrowed(trial.state),
    }
}

/// `3/10`.
fn epochs(trial: &Trial) -> String {
    trial.epochs_total.map_or_else(
        || trial.epoch.to_string(),
        |total| format!("{}/{total}", trial.epoch),
    )
}

fn steps(trial: &Trial) -> String {
    trial.steps_total.map_or_else(
        || trial.step.to_string(),
        |total| format!("{}/{total}", trial.step),
    )
}

pub(crate) fn trial_detail(detail: &TrialDetail) -> String {
    let trial = &detail.trial;
    let mut text = String::new();
    field(
        &mut text,
        "trial",
        &format!("{} of {}", trial.trial_id, trial.job_id),
    );
    field(&mut text, "state", &state(trial));
    field(&mut text, "error", trial.error.as_deref().unwrap_or(""));
    field(&mut text, "reason", trial.reason.as_deref().unwrap_or(""));
    field(&mut text, "parameters", &text::pairs(&trial.params));
    field(&mut text, "epochs", &epochs(trial));
    field(&mut text, "steps", &steps(trial));
    field(&mut text, "metrics", &metrics(&trial.metrics));
    if let Some(step) = trial.best_step {
        let line = format!("{} at step {step}", text::maybe(trial.best_value));
        field(&mut text, "best", &line);
    }
    field(&mut text, "started", &text::maybe_moment(trial.started_ms));
    field(&mut text, "ended", &text::maybe_moment(trial.ended_ms));
    field(&mut text, "restarts", &trial.restarts.to_string());
    for (name, checkpoint) in [
        ("best saved", &trial.best_checkpoint),
        ("latest saved", &trial.latest_checkpoint),
    ] {
        if let Some(checkpoint) = checkpoint {
            let line = format!("{} (step {})", checkpoint.manifest, checkpoint.step);
            field(&mut text, name, &line);
        }
    }
    let _ = write!(text, "\n{}", attempts(trial));
    if !detail.points.is_empty() {
        let _ = write!(text, "\n\n{}", curve(detail));
    }
    text
}

fn attempts(trial: &Trial) -> String {
    if trial.attempts.is_empty() {
        return "no attempts yet".to_owned();
    }
    let mut table = table([
        "ATTEMPT",
        "OUTCOME",
        "FROM STEP",
        "STARTED",
        "TIME",
        "WORKERS",
        "REASON",
    ]);
    for attempt in &trial.attempts {
        let workers: Vec<&str> = attempt
            .ranks
            .iter()
            .map(|rank| rank.worker_id.as_str())
            .collect();
        table.add_row([
            attempt.attempt.to_string(),
            attempt.outcome.unwrap_or("running").to_owned(),
            attempt.from_step.to_string(),
            text::maybe_moment(attempt.started_ms),
            text::between(attempt.started_ms, attempt.ended_ms),
            workers.join(","),
            attempt_reason(attempt),
        ]);
    }
    finish(&table)
}

fn attempt_reason(attempt: &Attempt) -> String {
    let parts = [&attempt.error, &attempt.reason];
    let said: Vec<&str> = parts.into_iter().filter_map(Option::as_deref).collect();
    said.join("; ")
}

pub(crate) fn explanation(explanation: &Explanation) -> String {
    let note = match explanation.job_note.as_str() {
        "" => String::new(),
        note => format!("\nthe job: {note}"),
    };
    if explanation.decisions.is_empty() {
        return format!("no decisions are kept of this trial{note}");
    }
    let mut table = table(["TIME", "DECISION", "ATTEMPT", "REASON"]);
    for decision in &explanation.decisions {
        let attempt = decision.attempt.map(|attempt| attempt.to_string());
        table.add_row([
            text::moment(decision.time_ms),
            decision.what.clone(),
            attempt.unwrap_or_else(|| "-".to_owned()),
            decision.reason.clone(),
        ]);
    }
    format!("{}{note}", finish(&table))
}

fn curve(detail: &TrialDetail) -> String {
    let skipped = detail.points.len().saturating_sub(CURVE_POINTS);
    let mut table = table(["STEP", "EPOCH", "METRICS"]);
    for point in &detail.points[skipped..] {
        table.add_row([
            point.step.to_string(),
            point.epoch.to_string(),
            metrics(&point.metrics),
        ]);
    }
    let mut text = finish(&table);
    if skipped > 0 {
        let _ = write!(text, "\n({skipped} earlier points: --output json)");
    }
    text
}

pub(crate) fn log_line(line: &LogLine) -> String {
    let rank = match line.rank {
        0 => String::new(),
        rank => format!(" rank {rank}"),
    };
    format!(
        "{} trial {}{rank} {:<5} {}",
        text::time_of_day(line.time_ms),
        line.trial_id,
        line.level,
        line.text
    )
}
