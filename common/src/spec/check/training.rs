//! The trainer's settings, and what it reports.

use super::Findings;
use crate::network::{self, losses};
use crate::spec::JobSpec;
use crate::spec::data::Task;
use crate::spec::error::near;
use crate::spec::findings::Range;
use crate::spec::schedules::ScheduleSpec;
use crate::spec::training::{ClippingSpec, Loss, MetricName, WeightAverageSpec};

/// Most objectives of one job: with a handful, most trials are as good as each other already.
const MAX_OBJECTIVES: usize = 100;

const MAX_BATCH: usize = 1 << 24;
const MAX_VIRTUAL_SHARDS: u32 = 4_096;
const VALIDATION: &str = "validation_";

pub(super) fn check(spec: &JobSpec, found: &mut Findings) {
    let training = &spec.training;
    for (field, value, most) in [
        ("batch_size", training.batch_size, MAX_BATCH),
        (
            "validation_batch_size",
            training.validation_batch_size,
            MAX_BATCH,
        ),
        ("epochs", training.epochs as usize, usize::MAX),
        (
            "limit_samples",
            training.limit_samples.unwrap_or(1),
            usize::MAX,
        ),
        (
            "report_every_steps",
            usize::from(training.report_every_steps > 0),
            usize::MAX,
        ),
    ] {
        let accepted = if most == MAX_BATCH {
            "whole numbers from 1 to 16777216"
        } else {
            "whole numbers from 1"
        };
        let path = format!("training.{field}");
        found.expect((1..=most).contains(&value), path, value, accepted);
    }
    if let Some(shards) = training.virtual_shards {
        let slots = spec.resources.slots_per_trial;
        found.expect(
            shards.is_power_of_two() && shards <= MAX_VIRTUAL_SHARDS,
            "training.virtual_shards",
            shards,
            "powers of two from 1 to 4096",
        );
        found.expect(
            shards >= slots,
            "training.virtual_shards",
            format!("{shards} with {slots} slots for a trial"),
            "at least as many as `resources.slots_per_trial`",
        );
    }
    training.optimizer.check("training.optimizer", found);
    check_schedule(spec, found);
    check_clipping(training.gradient_clipping.as_ref(), found);
    if let Some(WeightAverageSpec::Ema(ema)) = &training.average {
        found.range("training.average.ema", "decay", ema.decay, Range::Share);
    }
    check_loss(spec, found);
    check_class_weights(spec, found);
    for (i, metric) in training.metrics.iter().flatten().enumerate() {
        let task = task_of(spec);
        found.expect(
            (*metric == MetricName::Accuracy) == (task == Task::Classification),
            format!("training.metrics[{i}]"),
            format!(
                "`{}` with `task: {}`",
                metric_word(*metric),
                task_word(task)
            ),
            "`accuracy` for classification, `mae` and `mse` for regression",
        );
    }
}

fn check_schedule(spec: &JobSpec, found: &mut Findings) {
    let training = &spec.training;
    if let Some(warmup) = &training.warmup {
        warmup.check("training.warmup", found);
    }
    let Some(schedule) = &training.schedule else {
        return;
    };
    schedule.check("training.schedule", found);
    if let ScheduleSpec::Plateau(plateau) = schedule
        && spec.model.is_some()
    {
        let path = "training.schedule.plateau.metric";
        check_metric(spec, path, &plateau.metric, found);
    }
}

fn check_clipping(clipping: Option<&ClippingSpec>, found: &mut Findings) {
    let Some(clipping) = clipping else {
        return;
    };
    let path = "training.gradient_clipping";
    for (field, limit) in [
        ("value", clipping.value),
        ("global_norm", clipping.global_norm),
    ] {
        if let Some(limit) = limit {
            found.range(path, field, limit, Range::Positive);
        }
    }
    found.expect(
        clipping.value.is_some() || clipping.global_norm.is_some(),
        path,
        "neither `value` nor `global_norm`",
        "one of them, or both",
    );
}

fn check_loss(spec: &JobSpec, found: &mut Findings) {
    let Some(loss) = &spec.training.loss else {
        return;
    };
    if let Some(data) = &spec.data
        && !suits(loss.kind(), data.task)
    {
        found.add(
            "training.loss",
            format!(
                "`{}` with `task: {}`; accepted for classification are {}; for regression {}",
                loss.name(),
                task_word(data.task),
                losses_of(Task::Classification),
                losses_of(Task::Regression)
            ),
        );
    }
    let mut numbers = network::Findings::default();
    loss.check("training.loss", &mut numbers);
    for (path, message) in numbers.into_inner() {
        found.add(path, message);
    }
}

fn check_class_weights(spec: &JobSpec, found: &mut Findings) {
    let Some(weights) = &spec.training.class_weights else {
        return;
    };
    let path = "training.class_weights";
    found.expect(
        task_of(spec) == Task::Classification,
        path,
        "`task: regression`",
        "class weights with `task: classification`",
    );
    let classes = spec.data.as_ref().and_then(|data| data.classes);
    weights.check(path, classes, found);
}

fn suits(kind: &losses::Kind, task: Task) -> bool {
    match task {
        Task::Classification => kind.takes.classes(),
        Task::Regression => kind.takes.values(),
    }
}

/// Their words.
fn losses_of(task: Task) -> String {
    let kinds = Loss::KINDS.iter().filter(|kind| suits(kind, task));
    kinds.map(|kind| kind.word).collect::<Vec<_>>().join(", ")
}

/// Objectives must be reported by the trainer, and not on the test part.
pub(super) fn check_objectives(spec: &JobSpec, found: &mut Findings) {
    if spec.objectives.is_empty() {
        found.add(
            "objectives",
            "missing; an `entrypoint` reports metrics of its own, so that a list of {metric, mode} is needed",
        );
    }
    found.expect(
        spec.objectives.len() <= MAX_OBJECTIVES,
        "objectives",
        format!("{} elements", spec.objectives.len()),
        &format!("at most {MAX_OBJECTIVES}"),
    );
    for (i, objective) in spec.objectives.iter().take(MAX_OBJECTIVES).enumerate() {
        let path = format!("objectives[{i}].metric");
        let metric = &objective.metric;
        if metric.is_empty() {
            found.add(&path, "empty; accepted: the name of a reported metric");
            continue;
        }
        if spec.objectives[..i]
            .iter()
            .any(|other| other.metric == *metric)
        {
            found.add(&path, format!("`{metric}` is an objective already"));
        }
        if spec.model.is_some() {
            check_metric(spec, &path, metric, found);
        }
    }
}

/// A metric by which something decides must be reported by the trainer, and not on the test part.
fn check_metric(spec: &JobSpec, path: &str, metric: &str, found: &mut Findings) {
    let known = known_metrics(spec);
    let accepted = known.join(", ");
    if metric.starts_with("test_") {
        found.add(
            path,
            format!("`{metric}` given; the search never sees the test part, which judges the winner; accepted are {accepted}"),
        );
    } else if !known.iter().any(|name| name == metric) {
        let hint = near(metric, known.iter().map(String::as_str))
            .map(|word| format!("; did you mean `{word}`?"))
            .unwrap_or_default();
        found.add(
            path,
            format!("`{metric}` is not reported{hint}; accepted are {accepted}"),
        );
    } else if metric.starts_with(VALIDATION) && spec.split.validation == 0.0 {
        let what = match path.starts_with("objectives") {
            true => "objective",
            false => "schedule's metric",
        };
        found.add(
            "split.validation",
            format!("0 given, but the {what} `{metric}` is measured on the validation part; accepted: numbers above 0, below 1"),
        );
    }
}

/// What the built-in trainer reports.
fn known_metrics(spec: &JobSpec) -> Vec<String> {
    let chosen = spec.training.metrics.iter().flatten().copied();
    let mut names = vec!["loss".to_owned()];
    names.extend(chosen.map(|metric| metric_word(metric).to_owned()));
    let on_validation: Vec<String> = names
        .iter()
        .map(|name| format!("{VALIDATION}{name}"))
        .collect();
    [on_validation, names].concat()
}

fn task_of(spec: &JobSpec) -> Task {
    spec.data
        .as_ref()
        .map_or(Task::Classification, |data| data.task)
}

fn metric_word(metric: MetricName) -> &'static str {
    match metric {
        MetricName::Accuracy => "accuracy",
        MetricName::Mse => "mse",
        MetricName::Mae => "mae",
    }
}

fn task_word(task: Task) -> &'static str {
    match task {
        Task::Classification => "classification",
        Task::Regression => "regression",
    }
}
