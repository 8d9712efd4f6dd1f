//! What follows from other fields, and the document as it is stored.

use serde_json::Value;

use crate::spec::data::Task;
use crate::spec::error::SpecErrors;
use crate::spec::search::Mode;
use crate::spec::training::MetricName;
use crate::spec::{JobSpec, ObjectiveSpec, reference};

/// Writes out what follows from other fields.
pub(super) fn fill_defaults(job: &mut JobSpec) {
    let task = job.data.as_ref().map(|data| data.task).unwrap_or_default();
    let slots = job.resources.slots_per_trial;
    let training = &mut job.training;
    training.virtual_shards.get_or_insert(match slots {
        0 | 1 => 1,
        slots => slots
            .saturating_mul(2)
            .checked_next_power_of_two()
            .unwrap_or(slots),
    });
    if job.model.is_none() {
        return;
    }
    let metrics = training.metrics_of(task);
    training.loss = Some(training.loss_of(task));
    training.metrics = Some(metrics.clone());
    if job.objectives.is_empty() {
        let (metric, mode) = match task {
            Task::Classification if metrics.contains(&MetricName::Accuracy) => {
                ("validation_accuracy", Mode::Maximize)
            }
            _ => ("validation_loss", Mode::Minimize),
        };
        job.objectives.push(ObjectiveSpec {
            metric: metric.to_owned(),
            mode,
            goal: None,
        });
    }
}

/// The document with defaults written out and references kept.
pub(super) fn stored(root: &Value, job: &JobSpec) -> Result<Value, SpecErrors> {
    let mut stored =
        serde_json::to_value(job).map_err(|error| SpecErrors::one("", error.to_string()))?;
    reference::keep(&mut stored, root);
    // Where the task itself is searched over, what follows from it is left open.
    let task_varies = root["data"]["task"].as_str().is_some_and(reference::is_in);
    if task_varies && let Some(training) = stored["training"].as_object_mut() {
        for field in ["loss", "metrics"] {
            if root["training"][field].is_null() {
                training.remove(field);
            }
        }
    }
    if task_varies
        && root["objectives"].is_null()
        && let Some(fields) = stored.as_object_mut()
    {
        fields.remove("objectives");
    }
    Ok(stored)
}
