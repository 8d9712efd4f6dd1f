//! What people see: tables and descriptions of the shapes in `output`. Pure: text in, text out.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::view::output::{
    Attempt, Best, Checkpoint, Checkpoints, Configuration, Explanation, Job, JobDetail, JobResult,
    LogLine, Metrics, ModelSummary, Preview, Replayed, Trial, TrialDetail, Worker, Workspace,
};
use crate::view::text;

mod search;

pub(crate) use search::{forecast, insight};

/// Hyperparameters get a column each up to this many; beyond, they share one.
const PARAMETER_COLUMNS: usize = 6;
/// Points of a learning curve that `trial describe` shows, the newest.
const CURVE_POINTS: usize = 40;

fn table<const N: usize>(header: [&str; N]) -> Table {
    with_header(&header)
}

fn with_header(header: &[impl AsRef<str>]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    table
}

/// Lines without the blanks that fill up the last column.
fn finish(table: &Table) -> String {
    table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

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

fn field(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "{:<21}{value}", format!("{name}:"));
    }
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

/// `loss=0.1 accuracy=0.98`.
pub(crate) fn metrics(metrics: &Metrics) -> String {
    let mut line = String::new();
    for (name, value) in metrics {
        let gap = if line.is_empty() { "" } else { " " };
        let value = value
            .as_f64()
            .map_or_else(|| "nan".to_owned(), text::number);
        let _ = write!(line, "{gap}{name}={value}");
    }
    line
}

/// Names of all hyperparameters among the configurations, in the order of appearance.
fn parameter_names<'a>(params: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in params
        .filter_map(Value::as_object)
        .flat_map(|map| map.keys())
    {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The columns of a configuration, one each or all in one.
fn parameter_cells(names: &[String], params: &Value) -> Vec<String> {
    if names.len() > PARAMETER_COLUMNS {
        return vec![text::pairs(params)];
    }
    let cell = |name: &String| params.get(name).map_or_else(|| "-".to_owned(), text::value);
    names.iter().map(cell).collect()
}

fn parameter_header(names: &[String]) -> Vec<String> {
    if names.len() > PARAMETER_COLUMNS {
        vec!["PARAMETERS".to_owned()]
    } else {
        names.to_vec()
    }
}

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
        let mut row = vec![trial.trial_id.to_string(), trial.state.to_owned()];
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
    field(&mut text, "state", trial.state);
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
    if explanation.decisions.is_empty() {
        return "no decisions are kept of this trial".to_owned();
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
    finish(&table)
}

pub(crate) fn replayed(replayed: &Replayed) -> String {
    let mut told = String::new();
    for (index, entry) in replayed.log.iter().flatten().enumerate() {
        let _ = writeln!(told, "{index:>6}  {entry}");
    }
    let job = &replayed.job_id;
    let _ = match &replayed.difference {
        Some(difference) => write!(told, "{job} is decided otherwise: {difference}"),
        None => {
            let parts = [
                (replayed.suggestions, "suggestions"),
                (replayed.results, "results"),
                (replayed.rungs, "results at rungs"),
                (replayed.promotions, "promotions"),
                (replayed.extensions, "extensions"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            let parts: Vec<_> = parts.map(|(count, of)| format!("{count} {of}")).collect();
            write!(
                told,
                "{job} is decided in the same way: {}",
                parts.join(", ")
            )
        }
    };
    told
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

pub(crate) fn checkpoints(list: &Checkpoints) -> String {
    if list.checkpoints.is_empty() {
        return "no checkpoints".to_owned();
    }
    let mut table = table([
        "TRIAL", "STEP", "EPOCH", "SIZE", "KEPT AS", "METRICS", "MANIFEST",
    ]);
    for entry in &list.checkpoints {
        let checkpoint = &entry.checkpoint;
        table.add_row([
            entry.trial_id.to_string(),
            checkpoint.step.to_string(),
            checkpoint.epoch.to_string(),
            text::bytes(checkpoint.bytes),
            kept_as(entry).to_owned(),
            metrics(&checkpoint.metrics),
            checkpoint.manifest.clone(),
        ]);
    }
    format!("{}\nunder {}", finish(&table), list.checkpoint_url)
}

fn kept_as(checkpoint: &Checkpoint) -> &'static str {
    match (checkpoint.best, checkpoint.latest) {
        (true, true) => "best, latest",
        (true, false) => "best",
        (false, true) => "latest",
        (false, false) => "-",
    }
}

pub(crate) fn workers(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return "no workers".to_owned();
    }
    let mut table = table([
        "WORKER", "HOST", "STATE", "SLOTS", "DEVICES", "VERSION", "CPU", "NOTE",
    ]);
    for worker in workers {
        table.add_row([
            worker.worker_id.clone(),
            worker.host.clone(),
            worker.state.to_owned(),
            format!("{}/{}", worker.slots_used, worker.devices.len()),
            worker.devices.join(","),
            worker.version.clone(),
            worker.cpu_kind.clone(),
            worker.note.clone(),
        ]);
    }
    finish(&table)
}

pub(crate) fn workspaces(workspaces: &[Workspace]) -> String {
    if workspaces.is_empty() {
        return "no workspaces".to_owned();
    }
    let mut table = table([
        "WORKSPACE",
        "WEIGHT",
        "SHARE",
        "CPU",
        "CUDA",
        "ACTIVE",
        "WAITING",
    ]);
    let slots = |used: u32, most: Option<u32>| match most {
        Some(most) => format!("{used}/{most}"),
        None => used.to_string(),
    };
    for workspace in workspaces {
        table.add_row([
            workspace.name.clone(),
            workspace.weight.to_string(),
            format!("{:.1} %", workspace.share * 100.0),
            slots(workspace.cpu_slots_used, workspace.max_cpu_slots),
            slots(workspace.cuda_slots_used, workspace.max_cuda_slots),
            workspace.jobs_active.to_string(),
            workspace.jobs_waiting.to_string(),
        ]);
    }
    finish(&table)
}

pub(crate) fn preview(preview: &Preview) -> String {
    let rows = &preview.configurations;
    let names = parameter_names(rows.iter().map(|row| &row.params));
    let mut header = vec!["TRIAL".to_owned()];
    header.extend(parameter_header(&names));
    let mut table = with_header(&header);
    for Configuration { trial_id, params } in rows {
        let mut row = vec![trial_id.to_string()];
        row.extend(parameter_cells(&names, params));
        table.add_row(row);
    }
    let mut text = finish(&table);
    if let Some(expected) = preview.trials_expected {
        let _ = write!(text, "\n{} of {expected} configurations", rows.len());
    }
    text
}

pub(crate) fn model(summary: &ModelSummary) -> String {
    let mut table = table(["LAYER", "OUTPUT SHAPE", "PARAMETERS"]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_row([
        "input".to_owned(),
        text::shape(&summary.input_shape),
        "0".to_owned(),
    ]);
    for layer in &summary.layers {
        table.add_row([
            format!("{}.{}", layer.index, layer.name),
            text::shape(&layer.output_shape),
            text::grouped(layer.parameters + layer.non_trainable),
        ]);
    }
    format!(
        "{}\n\ntotal:         {}\ntrainable:     {}\nnon-trainable: {}",
        finish(&table),
        text::grouped(summary.parameters + summary.non_trainable),
        text::grouped(summary.parameters),
        text::grouped(summary.non_trainable),
    )
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_proto::v1;

    use super::*;
    use crate::view::convert;
    use crate::view::output;

    fn trial(trial_id: u32, params: &str, error: &str) -> Trial {
        convert::trial(&v1::TrialSummary {
            job_id: "digits-1".into(),
            trial_id,
            state: v1::TrialState::Completed as i32,
            params_json: params.into(),
            epoch: 2,
            epochs_total: 3,
            started_ms: 1_000,
            ended_ms: 3_500,
            best_value: Some(0.975),
            error: error.into(),
            ..Default::default()
        })
    }

    /// Cells of each line; two blanks or more stand between columns.
    fn cells(text: &str) -> Vec<Vec<&str>> {
        text.lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn trials_have_a_column_for_each_parameter() {
        let rows = [
            trial(0, r#"{"lr": 0.01, "units": 64}"#, ""),
            trial(1, r#"{"lr": 0.001}"#, ""),
        ];
        assert_eq!(
            cells(&trials(&rows)),
            [
                vec![
                    "TRIAL", "STATE", "lr", "units", "BEST", "EPOCHS", "TIME", "RESTARTS"
                ],
                vec!["0", "completed", "0.01", "64", "0.975", "2/3", "2.5 s", "0"],
                vec!["1", "completed", "0.001", "-", "0.975", "2/3", "2.5 s", "0"],
            ]
        );
    }

    #[test]
    fn errors_and_many_parameters_share_a_column() {
        let many = r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7}"#;
        let text = trials(&[trial(0, many, "no such file")]);
        assert!(
            text.contains("PARAMETERS") && text.contains("ERROR"),
            "{text}"
        );
        assert!(text.contains("a=1 b=2 c=3 d=4 e=5 f=6 g=7"), "{text}");
        assert!(text.contains("no such file"), "{text}");
    }

    #[test]
    fn a_job_without_known_total_counts_its_own_trials() {
        let job = convert::job(&v1::JobSummary {
            trials_running: 2,
            trials_completed: 3,
            trials_failed: 1,
            ..Default::default()
        });
        assert_eq!(trials_done(&job), "4/6");
    }

    #[test]
    fn a_model_adds_up() {
        let summary = ModelSummary {
            params: json!({}),
            input_shape: vec![64],
            layers: vec![
                output::Layer {
                    index: 0,
                    name: "dense".into(),
                    output_shape: vec![32],
                    parameters: 2_080,
                    non_trainable: 0,
                },
                output::Layer {
                    index: 1,
                    name: "batch_norm".into(),
                    output_shape: vec![32],
                    parameters: 64,
                    non_trainable: 64,
                },
            ],
            parameters: 2_144,
            non_trainable: 64,
        };
        let text = model(&summary);
        assert!(text.contains("0.dense"), "{text}");
        assert!(text.contains("total:         2,208"), "{text}");
        assert!(text.contains("trainable:     2,144"), "{text}");
    }

    #[test]
    fn the_winner_shows_where_its_checkpoint_lies() {
        let winner = Best {
            job_id: "digits-1".into(),
            objective: Some("validation_accuracy".into()),
            maximize: true,
            value: Some(0.99),
            trial: trial(4, r#"{"lr": 0.01}"#, ""),
            test_metrics: serde_json::from_value(json!({"test_accuracy": 0.98})).unwrap(),
            checkpoint_url: Some("file:///d/checkpoints/digits-1/".into()),
            checkpoint: Some(output::CheckpointRef {
                manifest: "trials/4/7.json".into(),
                step: 7,
                epoch: 1,
                bytes: 1,
                digest: "d".into(),
                metrics: Metrics::new(),
            }),
        };
        let text = best(&winner);
        for part in [
            "4 of digits-1",
            "lr=0.01",
            "test_accuracy=0.98",
            "file:///d/checkpoints/digits-1/trials/4/7.json",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn log_lines_name_trial_level_and_other_ranks() {
        let mut line = LogLine {
            trial_id: 3,
            attempt: 0,
            rank: 0,
            sequence: 1,
            time_ms: 61_000,
            level: "info".into(),
            text: "epoch 1".into(),
        };
        assert_eq!(log_line(&line), "00:01:01 trial 3 info  epoch 1");
        line.rank = 2;
        assert_eq!(log_line(&line), "00:01:01 trial 3 rank 2 info  epoch 1");
    }
}
