//! From the wire to the shapes of `output`. Pure.

use serde_json::Value;
use trainyard_proto::v1;

use crate::view::output::{
    Attempt, Best, Checkpoint, CheckpointRef, Decision, Event, Job, LogLine, Metrics, Point, Rank,
    Trial, Worker, Workspace,
};

/// 0 means "not yet" on the wire.
fn known(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A value that JSON can hold.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

pub(crate) fn metrics(metrics: &[v1::Metric]) -> Metrics {
    metrics
        .iter()
        .map(|metric| (metric.name.clone(), Value::from(metric.value)))
        .collect()
}

pub(crate) fn job_state(state: v1::JobState) -> &'static str {
    match state {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Pending => "pending",
        v1::JobState::Running => "running",
        v1::JobState::Evaluating => "evaluating",
        v1::JobState::Paused => "paused",
        v1::JobState::Completed => "completed",
        v1::JobState::Failed => "failed",
        v1::JobState::Cancelled => "cancelled",
    }
}

/// Whether a job in this state will never change again.
pub(crate) fn job_ended(state: v1::JobState) -> bool {
    matches!(
        state,
        v1::JobState::Completed | v1::JobState::Failed | v1::JobState::Cancelled
    )
}

pub(crate) fn trial_state(state: v1::TrialState) -> &'static str {
    match state {
        v1::TrialState::Unspecified => "unknown",
        v1::TrialState::Pending => "pending",
        v1::TrialState::Running => "running",
        v1::TrialState::Paused => "paused",
        v1::TrialState::Completed => "completed",
        v1::TrialState::Failed => "failed",
        v1::TrialState::Cancelled => "cancelled",
    }
}

pub(crate) fn trial_ended(state: v1::TrialState) -> bool {
    matches!(
        state,
        v1::TrialState::Completed | v1::TrialState::Failed | v1::TrialState::Cancelled
    )
}

fn outcome(outcome: v1::AttemptOutcome) -> Option<&'static str> {
    match outcome {
        v1::AttemptOutcome::Unspecified => None,
        v1::AttemptOutcome::Completed => Some("completed"),
        v1::AttemptOutcome::Error => Some("error"),
        v1::AttemptOutcome::Nan => Some("nan"),
        v1::AttemptOutcome::Infeasible => Some("infeasible"),
        v1::AttemptOutcome::OutOfMemory => Some("out_of_memory"),
        v1::AttemptOutcome::Hung => Some("hung"),
        v1::AttemptOutcome::DataInvalid => Some("data_invalid"),
        v1::AttemptOutcome::NodeLost => Some("node_lost"),
        v1::AttemptOutcome::Preempted => Some("preempted"),
        v1::AttemptOutcome::Paused => Some("paused"),
        v1::AttemptOutcome::Cancelled => Some("cancelled"),
        v1::AttemptOutcome::Stopped => Some("stopped"),
    }
}

pub(crate) fn job(job: &v1::JobSummary) -> Job {
    Job {
        job_id: job.job_id.clone(),
        name: job.name.clone(),
        workspace: job.workspace.clone(),
        priority: job.priority,
        state: job_state(job.state()),
        submitted_ms: known(job.submitted_ms),
        started_ms: known(job.started_ms),
        ended_ms: known(job.ended_ms),
        trials_pending: job.trials_pending,
        trials_running: job.trials_running,
        trials_paused: job.trials_paused,
        trials_completed: job.trials_completed,
        trials_failed: job.trials_failed,
        trials_cancelled: job.trials_cancelled,
        trials_expected: (job.trials_expected != 0).then_some(job.trials_expected),
        objective: said(&job.objective),
        maximize: job.maximize,
        best_trial: job.best_trial,
        best_value: job.best_value.and_then(finite),
        test_metrics: metrics(&job.test_metrics),
        checkpoint_url: said(&job.checkpoint_url),
        error: said(&job.error),
        note: said(&job.note),
        searcher: said(&job.searcher),
        archived_ms: known(job.archived_ms),
    }
}

/// The configuration of a trial; text that is no JSON stays text.
pub(crate) fn params(params_json: &str) -> Value {
    if params_json.is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    serde_json::from_str(params_json).unwrap_or_else(|_| Value::from(params_json))
}

pub(crate) fn trial(trial: &v1::TrialSummary) -> Trial {
    Trial {
        job_id: trial.job_id.clone(),
        trial_id: trial.trial_id,
        state: trial_state(trial.state()),
        params: params(&trial.params_json),
        epoch: trial.epoch,
        epochs_total: known(trial.epochs_total),
        step: trial.step,
        steps_total: known(trial.steps_total),
        metrics: metrics(&trial.metrics),
        best_value: trial.best_value.and_then(finite),
        best_step: trial.best_value.map(|_| trial.best_step),
        restarts: trial.restarts,
        created_ms: known(trial.created_ms),
        started_ms: known(trial.started_ms),
        ended_ms: known(trial.ended_ms),
        best_checkpoint: trial.best_checkpoint.as_ref().map(checkpoint_ref),
        latest_checkpoint: trial.latest_checkpoint.as_ref().map(checkpoint_ref),
        attempts: trial.attempts.iter().map(attempt).collect(),
        error: said(&trial.error),
        reason: said(&trial.reason),
    }
}

fn attempt(attempt: &v1::Attempt) -> Attempt {
    Attempt {
        attempt: attempt.attempt,
        generation: attempt.generation,
        ranks: attempt
            .ranks
            .iter()
            .map(|rank| Rank {
                rank: rank.rank,
                worker_id: rank.worker_id.clone(),
                slots: rank.slots.clone(),
            })
            .collect(),
        outcome: outcome(attempt.outcome()),
        from_step: attempt.from_step,
        started_ms: known(attempt.started_ms),
        ended_ms: known(attempt.ended_ms),
        error: said(&attempt.error),
        reason: said(&attempt.reason),
    }
}

pub(crate) fn checkpoint_ref(checkpoint: &v1::CheckpointRef) -> CheckpointRef {
    CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: metrics(&checkpoint.metrics),
    }
}

/// `None` for an entry without a checkpoint, which no coordinator sends.
pub(crate) fn checkpoint(checkpoint: &v1::Checkpoint) -> Option<Checkpoint> {
    Some(Checkpoint {
        trial_id: checkpoint.trial_id,
        best: checkpoint.best,
        latest: checkpoint.latest,
        checkpoint: checkpoint_ref(checkpoint.checkpoint.as_ref()?),
    })
}

/// The job's winner so far, where it has one.
pub(crate) fn best(summary: &v1::JobSummary, trials: &[v1::TrialSummary]) -> Option<Best> {
    let trial_id = summary.best_trial?;
    let winner = trials.iter().find(|trial| trial.trial_id == trial_id)?;
    Some(Best {
        job_id: summary.job_id.clone(),
        objective: said(&summary.objective),
        maximize: summary.maximize,
        value: summary.best_value.and_then(finite),
        trial: trial(winner),
        test_metrics: metrics(&summary.test_metrics),
        checkpoint_url: said(&summary.checkpoint_url),
        checkpoint: winner.best_checkpoint.as_ref().map(checkpoint_ref),
    })
}

pub(crate) fn point(point: &v1::MetricPoint) -> Point {
    Point {
        step: point.step,
        epoch: point.epoch,
        time_ms: point.time_ms,
        metrics: metrics(&point.metrics),
    }
}

pub(crate) fn decision(decision: v1::Decision) -> Decision {
    Decision {
        sequence: decision.sequence,
        time_ms: decision.time_ms,
        what: decision.what,
        attempt: decision.attempt,
        reason: decision.reason,
    }
}

pub(crate) fn event(event: &v1::job_event::Event) -> Event {
    match event {
        v1::job_event::Event::Job(summary) => Event::Job(Box::new(job(summary))),
        v1::job_event::Event::Trial(summary) => Event::Trial(Box::new(trial(summary))),
    }
}

pub(crate) fn log_line(line: &v1::LogLine) -> LogLine {
    LogLine {
        trial_id: line.trial_id,
        attempt: line.attempt,
        rank: line.rank,
        sequence: line.sequence,
        time_ms: line.time_ms,
        level: line.level.clone(),
        text: line.text.clone(),
    }
}

pub(crate) fn worker(worker: &v1::WorkerSummary) -> Worker {
    Worker {
        worker_id: worker.worker_id.clone(),
        host: worker.host.clone(),
        version: worker.version.clone(),
        devices: worker.devices.clone(),
        slots_used: worker.slots_used,
        connected: worker.connected,
        draining: worker.draining,
        last_heartbeat_ms: known(worker.last_heartbeat_ms),
        cpu_kind: worker.cpu_kind.clone(),
        state: worker_state(worker.state()),
        since_ms: known(worker.since_ms),
        note: worker.note.clone(),
        programs: worker.programs,
    }
}

pub(crate) fn workspace(workspace: &v1::Workspace) -> Workspace {
    Workspace {
        name: workspace.name.clone(),
        weight: workspace.weight,
        max_cpu_slots: workspace.max_cpu_slots,
        max_cuda_slots: workspace.max_cuda_slots,
        cpu_slots_used: workspace.cpu_slots_used,
        cuda_slots_used: workspace.cuda_slots_used,
        share: workspace.share,
        jobs_active: workspace.jobs_active,
        jobs_waiting: workspace.jobs_waiting,
    }
}

fn worker_state(state: v1::WorkerState) -> &'static str {
    match state {
        v1::WorkerState::Unspecified => "unknown",
        v1::WorkerState::Ready => "ready",
        v1::WorkerState::Draining => "draining",
        v1::WorkerState::Drained => "drained",
        v1::WorkerState::Silent => "silent",
        v1::WorkerState::Suspect => "suspect",
        v1::WorkerState::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary() -> v1::JobSummary {
        v1::JobSummary {
            job_id: "digits-1".into(),
            name: "digits".into(),
            workspace: "default".into(),
            state: v1::JobState::Completed as i32,
            submitted_ms: 1_000,
            ended_ms: 5_000,
            trials_completed: 1,
            trials_expected: 1,
            objective: "validation_accuracy".into(),
            maximize: true,
            best_trial: Some(0),
            best_value: Some(0.5),
            test_metrics: vec![v1::Metric {
                name: "test_loss".into(),
                value: f64::NAN,
            }],
            checkpoint_url: "file:///c".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_job_has_the_documented_shape() {
        assert_eq!(
            serde_json::to_value(job(&summary())).unwrap(),
            json!({
                "job_id": "digits-1", "name": "digits", "workspace": "default", "priority": 0,
                "state": "completed", "submitted_ms": 1000, "started_ms": null, "ended_ms": 5000,
                "trials_pending": 0, "trials_running": 0, "trials_paused": 0,
                "trials_completed": 1,
                "trials_failed": 0, "trials_cancelled": 0, "trials_expected": 1,
                "objective": "validation_accuracy", "maximize": true,
                "best_trial": 0, "best_value": 0.5,
                "test_metrics": {"test_loss": null},
                "checkpoint_url": "file:///c", "error": null, "note": null,
                "searcher": null, "archived_ms": null,
            })
        );
    }

    #[test]
    fn a_trial_has_the_documented_shape() {
        let wire = v1::TrialSummary {
            job_id: "digits-1".into(),
            state: v1::TrialState::Failed as i32,
            params_json: r#"{"z": 1, "a": "x"}"#.into(),
            error: "loss is not a number at step 7".into(),
            attempts: vec![v1::Attempt {
                outcome: v1::AttemptOutcome::Nan as i32,
                ranks: vec![v1::Rank {
                    worker_id: "w".into(),
                    slots: vec![1],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            latest_checkpoint: Some(v1::CheckpointRef {
                manifest: "trials/0/1.json".into(),
                step: 4,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_string(&trial(&wire)).unwrap(),
            concat!(
                r#"{"job_id":"digits-1","trial_id":0,"state":"failed","params":{"z":1,"a":"x"},"#,
                r#""epoch":0,"epochs_total":null,"step":0,"steps_total":null,"metrics":{},"#,
                r#""best_value":null,"best_step":null,"restarts":0,"created_ms":null,"#,
                r#""started_ms":null,"ended_ms":null,"best_checkpoint":null,"#,
                r#""latest_checkpoint":{"manifest":"trials/0/1.json","step":4,"epoch":0,"#,
                r#""bytes":0,"digest":"","metrics":{}},"#,
                r#""attempts":[{"attempt":0,"generation":0,"#,
                r#""ranks":[{"rank":0,"worker_id":"w","slots":[1]}],"outcome":"nan","#,
                r#""from_step":0,"started_ms":null,"ended_ms":null,"error":null,"reason":null}],"#,
                r#""error":"loss is not a number at step 7","reason":null}"#
            )
        );
    }

    #[test]
    fn the_best_trial_is_the_one_that_the_job_names() {
        let trials = [0, 1].map(|trial_id| v1::TrialSummary {
            trial_id,
            params_json: format!(r#"{{"lr": {trial_id}}}"#),
            ..Default::default()
        });
        let mut job = summary();
        job.best_trial = Some(1);
        assert_eq!(best(&job, &trials).unwrap().trial.params, json!({"lr": 1}));
        job.best_trial = Some(2);
        assert_eq!(best(&job, &trials), None);
        job.best_trial = None;
        assert_eq!(best(&job, &trials), None);
    }

    #[test]
    fn events_and_checkpoints_are_tagged_and_flat() {
        let wire = v1::job_event::Event::Job(summary());
        let line = serde_json::to_value(event(&wire)).unwrap();
        assert_eq!(line["job"]["job_id"], "digits-1");
        let wire = v1::Checkpoint {
            trial_id: 2,
            best: true,
            latest: false,
            checkpoint: Some(v1::CheckpointRef {
                manifest: "m".into(),
                ..Default::default()
            }),
        };
        let entry = serde_json::to_value(checkpoint(&wire)).unwrap();
        assert_eq!(
            entry,
            json!({"trial_id": 2, "best": true, "latest": false, "manifest": "m", "step": 0,
                   "epoch": 0, "bytes": 0, "digest": "", "metrics": {}})
        );
    }
}
