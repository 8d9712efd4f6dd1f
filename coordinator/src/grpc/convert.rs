//! From the machine's answers to messages, and from messages to checked identifiers.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1;

use super::status::ApiError;
use crate::cluster::api::{
    AttemptSummary, TrialSummary, WorkerState, WorkerSummary, WorkspaceSummary,
};
use crate::cluster::model::{
    AttemptKind, Decision, JobState, JobSummary, Metrics, Outcome, RankPlace, TrialState,
};
use crate::driver::series::{StoredDecision, StoredPoint};

/// Longest identifier that is looked up at all.
const MAX_ID_CHARS: usize = 256;

/// A job's identifier as a client gave it, or why it cannot be one.
pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    identifier("job_id", text).map(|()| JobId::from(text))
}

/// Checks that `text` is printable, not empty and not long.
pub(super) fn identifier(field: &'static str, text: &str) -> Result<(), ApiError> {
    let length = text.chars().count();
    if length == 0 || length > MAX_ID_CHARS || text.chars().any(char::is_control) {
        return Err(ApiError::field(
            field,
            format!("{:?}", text.chars().take(64).collect::<String>()),
            format!("1 to {MAX_ID_CHARS} characters without control characters"),
        ));
    }
    Ok(())
}

pub(super) fn metrics(metrics: Metrics) -> Vec<v1::Metric> {
    metrics
        .into_iter()
        .map(|(name, value)| v1::Metric { name, value })
        .collect()
}

pub(super) fn checkpoint(reference: CheckpointRef) -> v1::CheckpointRef {
    v1::CheckpointRef {
        manifest: reference.manifest,
        step: reference.step,
        epoch: reference.epoch,
        bytes: reference.bytes,
        digest: reference.digest,
        metrics: metrics(reference.metrics),
    }
}

pub(super) fn job_state(state: JobState) -> v1::JobState {
    match state {
        JobState::Pending => v1::JobState::Pending,
        JobState::Running => v1::JobState::Running,
        JobState::Evaluating => v1::JobState::Evaluating,
        JobState::Paused => v1::JobState::Paused,
        JobState::Completed => v1::JobState::Completed,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
    }
}

pub(super) fn trial_state(state: TrialState) -> v1::TrialState {
    match state {
        TrialState::Pending => v1::TrialState::Pending,
        TrialState::Running => v1::TrialState::Running,
        TrialState::Paused => v1::TrialState::Paused,
        TrialState::Completed => v1::TrialState::Completed,
        TrialState::Failed => v1::TrialState::Failed,
        TrialState::Cancelled => v1::TrialState::Cancelled,
    }
}

fn outcome(outcome: Option<Outcome>) -> v1::AttemptOutcome {
    match outcome {
        None => v1::AttemptOutcome::Unspecified,
        Some(Outcome::Completed) => v1::AttemptOutcome::Completed,
        Some(Outcome::Error) => v1::AttemptOutcome::Error,
        Some(Outcome::Nan) => v1::AttemptOutcome::Nan,
        Some(Outcome::Infeasible) => v1::AttemptOutcome::Infeasible,
        Some(Outcome::OutOfMemory) => v1::AttemptOutcome::OutOfMemory,
        Some(Outcome::Hung) => v1::AttemptOutcome::Hung,
        Some(Outcome::DataInvalid) => v1::AttemptOutcome::DataInvalid,
        Some(Outcome::NodeLost) => v1::AttemptOutcome::NodeLost,
        Some(Outcome::Preempted) => v1::AttemptOutcome::Preempted,
        Some(Outcome::Paused) => v1::AttemptOutcome::Paused,
        Some(Outcome::Cancelled) => v1::AttemptOutcome::Cancelled,
        Some(Outcome::Stopped) => v1::AttemptOutcome::Stopped,
    }
}

/// A rank's outcome as its worker tells it; `None` where it is not one.
pub(super) fn from_outcome(outcome: v1::AttemptOutcome) -> Option<Outcome> {
    match outcome {
        // Of stopping the coordinator alone speaks.
        v1::AttemptOutcome::Unspecified | v1::AttemptOutcome::Stopped => None,
        v1::AttemptOutcome::Completed => Some(Outcome::Completed),
        v1::AttemptOutcome::Error => Some(Outcome::Error),
        v1::AttemptOutcome::Nan => Some(Outcome::Nan),
        v1::AttemptOutcome::Infeasible => Some(Outcome::Infeasible),
        v1::AttemptOutcome::OutOfMemory => Some(Outcome::OutOfMemory),
        v1::AttemptOutcome::Hung => Some(Outcome::Hung),
        v1::AttemptOutcome::DataInvalid => Some(Outcome::DataInvalid),
        v1::AttemptOutcome::NodeLost => Some(Outcome::NodeLost),
        v1::AttemptOutcome::Preempted => Some(Outcome::Preempted),
        v1::AttemptOutcome::Paused => Some(Outcome::Paused),
        v1::AttemptOutcome::Cancelled => Some(Outcome::Cancelled),
    }
}

/// What there is of these, in one line.
fn said(texts: [String; 2]) -> String {
    let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    texts.join("; ")
}

pub(super) fn job(summary: JobSummary) -> v1::JobSummary {
    v1::JobSummary {
        job_id: summary.job.0,
        name: summary.name,
        workspace: summary.workspace,
        priority: summary.priority,
        state: job_state(summary.state).into(),
        submitted_ms: summary.submitted_ms,
        started_ms: summary.started_ms,
        ended_ms: summary.ended_ms,
        trials_pending: summary.trials.pending,
        trials_running: summary.trials.running,
        trials_paused: summary.trials.paused,
        trials_completed: summary.trials.completed,
        trials_failed: summary.trials.failed,
        trials_cancelled: summary.trials.cancelled,
        trials_expected: summary.trials_expected.unwrap_or(0),
        objective: summary.objective,
        maximize: summary.maximize,
        best_trial: summary.best_trial.map(|trial| trial.0),
        best_value: summary.best_value,
        error: summary.error,
        test_metrics: metrics(summary.test_metrics),
        checkpoint_url: summary.checkpoint_url,
        note: said([summary.working, summary.note]),
        searcher: summary.chosen,
        archived_ms: summary.archived_ms,
    }
}

pub(super) fn trial(summary: TrialSummary) -> v1::TrialSummary {
    v1::TrialSummary {
        job_id: summary.job.0,
        trial_id: summary.trial.0,
        state: trial_state(summary.state).into(),
        params_json: serde_json::Value::Object(summary.params).to_string(),
        suggested_params_json: summary.suggested.map_or_else(String::new, |suggested| {
            serde_json::Value::Object(suggested).to_string()
        }),
        epoch: summary.epoch,
        epochs_total: summary.epochs_total,
        step: summary.step,
        steps_total: summary.steps_total,
        metrics: metrics(summary.metrics),
        best_value: summary.best_value,
        best_step: summary.best_step,
        restarts: summary.restarts,
        error: summary.error,
        created_ms: summary.created_ms,
        started_ms: summary.started_ms,
        ended_ms: summary.ended_ms,
        best_checkpoint: summary.best_checkpoint.map(checkpoint),
        latest_checkpoint: summary.latest_checkpoint.map(checkpoint),
        attempts: summary
            .attempts
            .into_iter()
            .filter(|attempt| attempt.kind == AttemptKind::Train)
            .map(attempt)
            .collect(),
        reason: summary.reason,
    }
}

fn attempt(summary: AttemptSummary) -> v1::Attempt {
    v1::Attempt {
        attempt: summary.attempt.0,
        generation: summary.generation.0,
        ranks: summary.ranks.into_iter().map(rank).collect(),
        outcome: outcome(summary.outcome).into(),
        error: summary.error,
        started_ms: summary.started_ms,
        ended_ms: summary.ended_ms,
        from_step: summary.from_step,
        reason: summary.reason,
    }
}

pub(super) fn rank(place: RankPlace) -> v1::Rank {
    v1::Rank {
        rank: place.rank,
        worker_id: place.worker.0,
        slots: place.slots,
        collective_address: place.collective_address,
    }
}

/// All checkpoints of a trial that are known to exist, oldest first.
pub(super) fn checkpoints(summary: TrialSummary) -> Vec<v1::Checkpoint> {
    let TrialSummary {
        trial: TrialId(trial_id),
        best_checkpoint,
        latest_checkpoint,
        checkpoints,
        ..
    } = summary;
    let is = |marked: &Option<CheckpointRef>, manifest: &str| {
        marked
            .as_ref()
            .is_some_and(|marked| marked.manifest == manifest)
    };
    checkpoints
        .into_iter()
        .map(|reference| v1::Checkpoint {
            trial_id,
            best: is(&best_checkpoint, &reference.manifest),
            latest: is(&latest_checkpoint, &reference.manifest),
            checkpoint: Some(checkpoint(reference)),
        })
        .collect()
}

pub(super) fn point(stored: StoredPoint) -> v1::MetricPoint {
    v1::MetricPoint {
        step: stored.step,
        epoch: stored.epoch,
        metrics: metrics(stored.metrics),
        time_ms: stored.time_ms,
    }
}

pub(super) fn decision(sequence: u64, stored: StoredDecision) -> v1::Decision {
    v1::Decision {
        sequence,
        time_ms: stored.time_ms,
        what: decision_name(stored.what).to_owned(),
        reason: stored.reason,
        attempt: stored.attempt,
    }
}

fn decision_name(what: Decision) -> &'static str {
    match what {
        Decision::Suggested => "suggested",
        Decision::Placed => "placed",
        Decision::Paused => "paused",
        Decision::Resumed => "resumed",
        Decision::Promoted => "promoted",
        Decision::Preempted => "preempted",
        Decision::Drained => "drained",
        Decision::Lost => "lost",
        Decision::Hung => "hung",
        Decision::Retried => "retried",
        Decision::Stopped => "stopped",
        Decision::Completed => "completed",
        Decision::Failed => "failed",
        Decision::Cancelled => "cancelled",
        Decision::Judged => "judged",
        Decision::Reserved => "reserved",
        Decision::Repeated => "repeated",
    }
}

fn worker_state(state: WorkerState) -> v1::WorkerState {
    match state {
        WorkerState::Ready => v1::WorkerState::Ready,
        WorkerState::Draining => v1::WorkerState::Draining,
        WorkerState::Drained => v1::WorkerState::Drained,
        WorkerState::Silent => v1::WorkerState::Silent,
        WorkerState::Suspect => v1::WorkerState::Suspect,
        WorkerState::Lost => v1::WorkerState::Lost,
    }
}

pub(super) fn workspace(summary: WorkspaceSummary) -> v1::Workspace {
    v1::Workspace {
        name: summary.workspace,
        weight: summary.weight,
        max_cpu_slots: summary.max_cpu_slots,
        max_cuda_slots: summary.max_cuda_slots,
        cpu_slots_used: summary.cpu_slots_used,
        cuda_slots_used: summary.cuda_slots_used,
        share: summary.share,
        jobs_active: summary.jobs_active,
        jobs_waiting: summary.jobs_waiting,
    }
}

pub(super) fn worker(summary: WorkerSummary) -> v1::WorkerSummary {
    v1::WorkerSummary {
        worker_id: summary.worker.0,
        host: summary.host,
        version: summary.version,
        devices: summary.devices,
        slots_used: summary.slots_used,
        connected: summary.connected,
        draining: summary.draining,
        last_heartbeat_ms: summary.last_heartbeat_ms,
        cpu_kind: summary.cpu_kind,
        programs: Some(summary.programs),
        state: worker_state(summary.state).into(),
        since_ms: summary.since_ms,
        note: summary.note,
    }
}
