//! Answers to queries, as plain data; the gRPC shell turns them into messages.

use std::sync::Arc;

use serde_json::Value;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::{Document, ObjectiveSpec};

use crate::cluster::Machine;
use crate::cluster::api::{
    AttemptSummary, ClusterSummary, TrialSummary, WorkerState, WorkerSummary,
};
use crate::cluster::lifecycle::best::best_checkpoint;
use crate::cluster::model::{
    ArchiveRef, AttemptKind, AttemptRecord, Expected, Job, JobRecord, JobState, JobSummary, Trial,
    TrialCounts, TrialRecord, WorkerInfo,
};

impl Machine {
    /// The job, archived or not.
    pub fn any_job(&self, job: &JobId) -> Option<JobSummary> {
        let archived = || Some(self.retention.archived(job)?.summary.clone());
        self.job(job).or_else(archived)
    }

    /// Where an archived job lies.
    pub fn archive_of(&self, job: &JobId) -> Option<ArchiveRef> {
        Some(self.retention.archived(job)?.archive.clone())
    }

    /// Whether the job's searcher computes something, so that no trial of it can begin.
    pub fn computes(&self, job: &JobId) -> bool {
        let found = self.jobs.get(job);
        found.is_some_and(|found| found.mind.thinks() || found.choosing.is_some())
    }

    /// Whether what trials are to go on with is being worked out: nobody is promoted meanwhile.
    pub fn chooses(&self, job: &JobId) -> bool {
        let found = self.jobs.get(job);
        found.is_some_and(|found| found.choosing.is_some())
    }

    /// Whether its search is still being read from its log.
    pub fn loads(&self, job: &JobId) -> bool {
        let found = self.jobs.get(job);
        found.is_some_and(|found| found.mind.loads())
    }

    pub fn job(&self, job: &JobId) -> Option<JobSummary> {
        let aside = || Some(self.aside.get(job)?.summary.clone());
        self.jobs.get(job).map(job_summary).or_else(aside)
    }

    /// As [`document`](Self::document), for who looks at it for longer.
    pub fn shared_document(&self, job: &JobId) -> Option<Arc<Document>> {
        Some(Arc::clone(&self.jobs.get(job)?.document))
    }

    /// The job's resolved spec, or what is stored as that.
    pub fn spec_json(&self, job: &JobId) -> Option<Value> {
        let aside = || Some(self.aside.get(job)?.document.clone());
        self.document(job).map(Document::to_json).or_else(aside)
    }

    pub fn document(&self, job: &JobId) -> Option<&Document> {
        Some(&self.jobs.get(job)?.document)
    }

    pub fn trial(&self, job: &JobId, trial: TrialId) -> Option<TrialSummary> {
        let job = self.jobs.get(job)?;
        Some(trial_summary(job.objective(), job.trial(trial)?))
    }

    /// Slots are those of connected workers.
    pub fn cluster(&self) -> ClusterSummary {
        let connected = || {
            self.workers
                .values()
                .filter(|worker| worker.session.is_some())
        };
        let total: usize = connected().map(|worker| worker.slots.len()).sum();
        ClusterSummary {
            term: self.term,
            slots_total: u32::try_from(total).unwrap_or(u32::MAX),
            slots_used: connected().map(|worker| used(&worker.slots)).sum(),
            jobs_active: u32::try_from(self.jobs.active().count()).unwrap_or(u32::MAX),
        }
    }
}

pub(super) fn worker_summary(info: &WorkerInfo, seen_ms: u64) -> WorkerSummary {
    WorkerSummary {
        worker: info.worker.clone(),
        host: info.host.clone(),
        version: info.version.clone(),
        devices: info.devices.clone(),
        slots_used: 0,
        slots_kept: 0,
        connected: false,
        draining: false,
        state: WorkerState::Lost,
        since_ms: seen_ms,
        note: String::new(),
        last_heartbeat_ms: seen_ms,
        cpu_kind: info.cpu_kind.clone(),
        programs: info.programs,
    }
}

pub(super) fn used<T>(slots: &[Option<T>]) -> u32 {
    u32::try_from(slots.iter().flatten().count()).unwrap_or(u32::MAX)
}

pub(in crate::cluster) fn job_summary(job: &Job) -> JobSummary {
    let objective = job.objective();
    JobSummary {
        trials: job.counts,
        objective: objective.map_or_else(String::new, |objective| objective.metric.clone()),
        maximize: objective.is_some_and(|objective| {
            objective.mode == trainyard_common::spec::search::Mode::Maximize
        }),
        working: working(job).to_owned(),
        ..record_summary(&job.record)
    }
}

/// What its search computes while nothing of the job can begin.
fn working(job: &Job) -> &'static str {
    let searches = matches!(job.record.state, JobState::Pending | JobState::Running);
    let waits = job.running.is_empty() && job.pending.is_empty();
    if searches && waits && job.choosing.is_some() {
        return "what its trials go on with is being worked out";
    }
    match searches && job.record.search_closed.is_none() {
        true if job.mind.loads() => {
            "its search is still being read from its log: no trial begins before that is done"
        }
        true if job.mind.thinks() && waits => "its next trial is being worked out",
        _ => "",
    }
}

/// What a job's record alone tells.
pub(in crate::cluster) fn record_summary(record: &JobRecord) -> JobSummary {
    JobSummary {
        job: record.job.clone(),
        name: record.name.clone(),
        workspace: record.workspace.clone(),
        priority: record.priority,
        state: record.state,
        submitted_ms: record.submitted_ms,
        started_ms: record.started_ms,
        ended_ms: record.ended_ms,
        trials: TrialCounts::default(),
        trials_expected: record.expected.and_then(Expected::trials),
        objective: String::new(),
        maximize: false,
        best_trial: record.best.map(|best| best.trial),
        best_value: record.best.map(|best| best.value),
        error: record.error.clone(),
        note: note(record),
        working: String::new(),
        chosen: record.chosen.clone(),
        test_metrics: record.test_metrics.clone(),
        checkpoint_url: record.checkpoint_url.clone(),
        archived_ms: 0,
    }
}

/// Why a job waits or begins nothing new, and what people should know besides.
fn note(record: &JobRecord) -> String {
    let closed = record
        .ended_early()
        .filter(|_| record.state != JobState::Failed);
    let closed = closed.map(|why| format!("no more trials begin: {why}"));
    let said = [
        record.note.as_str(),
        record.remark.as_str(),
        closed.as_deref().unwrap_or_default(),
    ];
    let said = said.into_iter().filter(|text| !text.is_empty());
    said.collect::<Vec<_>>().join("; ")
}

/// A trial as its records tell it, in a job of this spec.
pub fn recorded_trial(
    document: &Document,
    record: TrialRecord,
    attempts: Vec<AttemptRecord>,
) -> TrialSummary {
    let mut trial = Trial { record, attempts };
    trial.trim();
    trial_summary(document.job().objectives.first(), trial)
}

pub(super) fn trial_summary(objective: Option<&ObjectiveSpec>, trial: Trial) -> TrialSummary {
    let best_checkpoint = best_checkpoint(objective, &trial);
    let Trial { record, attempts } = trial;
    let training = |attempt: &&AttemptRecord| attempt.kind == AttemptKind::Train;
    let newest = attempts.iter().rev().find(training);
    // A new attempt has not told anything yet: the metrics of the one before still stand.
    let mut told = attempts.iter().rev().filter(training);
    let metrics = told.find(|attempt| !attempt.metrics.is_empty());
    TrialSummary {
        epoch: newest.map_or(0, |attempt| attempt.epoch),
        step: newest.map_or(0, |attempt| attempt.step),
        metrics: metrics.map_or_else(Vec::new, |attempt| attempt.metrics.clone()),
        attempts: attempts
            .iter()
            .filter(training)
            .map(attempt_summary)
            .collect(),
        best_checkpoint,
        job: record.job,
        trial: record.trial,
        state: record.state,
        params: record.params,
        suggested: record.suggested,
        epochs_total: record.epochs_total,
        steps_total: record.steps_total,
        best_value: record.best.map(|(value, _)| value),
        best_step: record.best.map_or(0, |(_, step)| step),
        restarts: record.restarts,
        error: record.error,
        reason: record.reason,
        created_ms: record.created_ms,
        started_ms: record.started_ms,
        ended_ms: record.ended_ms,
        latest_checkpoint: record.checkpoints.last().cloned(),
        checkpoints: record.checkpoints,
    }
}

fn attempt_summary(attempt: &AttemptRecord) -> AttemptSummary {
    AttemptSummary {
        attempt: attempt.attempt,
        generation: attempt.generation,
        kind: attempt.kind,
        ranks: attempt
            .ranks
            .iter()
            .map(|rank| rank.place.clone())
            .collect(),
        outcome: attempt.shown_outcome(),
        error: attempt.error.clone(),
        reason: attempt.reason.clone(),
        started_ms: attempt.started_ms,
        ended_ms: attempt.ended_ms,
        from_step: attempt.from_step,
    }
}
