//! The checkpoints of one attempt: told once they are durable, deleted once they are superseded.
//!
//! A checkpoint is deleted only when the newest one is durable *and* the coordinator has acknowledged
//! it, and never once the attempt was told to stop: by then another attempt may go on from any of them.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use trainyard_common::spec::JobSpec;
use trainyard_common::spec::search::Mode;
use trainyard_proto::v1::{self, CheckpointSaved, CheckpointsDropped, report::Body};

use crate::checkpoint::{CheckpointError, CheckpointRef, CheckpointStore, KeepPolicy, to_drop};
use crate::outbox::Reporter;

/// What became of checkpoints, besides their being superseded.
pub(super) enum CheckpointNews {
    /// What the uploader says of each snapshot. It blocks on more snapshots in flight than a few, so
    /// that the number of results that wait is bounded by it.
    Saved(Result<CheckpointRef, CheckpointError>),
    /// Manifests of checkpoints that are not whole. Said once, before the first snapshot.
    Broken(Vec<String>),
}

/// Why a checkpoint could not be saved: the attempt cannot keep its promises and ends.
pub(super) type Failure = Arc<OnceLock<String>>;

pub(super) struct CheckpointRetention {
    store: CheckpointStore,
    reporter: Reporter,
    failure: Failure,
    policy: KeepPolicy,
    objective: Option<(String, Mode)>,
    known: Vec<CheckpointRef>,
    /// Ticket of the newest checkpoint's report, until it is acknowledged.
    unacknowledged: Option<u64>,
}

impl CheckpointRetention {
    pub(super) fn new(
        job: &JobSpec,
        store: CheckpointStore,
        known: Vec<CheckpointRef>,
        reporter: Reporter,
        failure: Failure,
    ) -> Self {
        let objective = job.objectives.first();
        Self {
            store,
            reporter,
            failure,
            policy: KeepPolicy::from(&job.checkpoint_storage),
            objective: objective.map(|objective| (objective.metric.clone(), objective.mode)),
            known,
            unacknowledged: None,
        }
    }

    /// Follows the uploader until it has ended and nothing is left to be deleted.
    pub(super) async fn run(mut self, mut news: mpsc::UnboundedReceiver<CheckpointNews>) {
        let mut open = true;
        while open || self.unacknowledged.is_some() {
            let ticket = self.unacknowledged.unwrap_or(u64::MAX);
            tokio::select! {
                biased;
                told = news.recv(), if open => match told {
                    Some(CheckpointNews::Saved(result)) => self.saved(result).await,
                    Some(CheckpointNews::Broken(manifests)) => self.forget(manifests).await,
                    None => open = false,
                },
                acknowledged = self.reporter.acknowledged(ticket), if self.unacknowledged.is_some() => {
                    self.unacknowledged = None;
                    if acknowledged {
                        self.sweep().await;
                    }
                }
            }
        }
    }

    async fn saved(&mut self, result: Result<CheckpointRef, CheckpointError>) {
        self.reporter.activity.sign();
        match result {
            Ok(checkpoint) => {
                self.reporter.info(&format!(
                    "checkpoint saved: {} ({} bytes)",
                    checkpoint.manifest, checkpoint.bytes
                ));
                let told = CheckpointSaved {
                    checkpoint: Some(to_wire(&checkpoint)),
                };
                self.known.push(checkpoint);
                self.unacknowledged = self.reporter.report(Body::Checkpoint(told)).await;
            }
            Err(error) => {
                let text = format!("a checkpoint could not be saved: {error}");
                self.reporter.warn(&text);
                // Only the first is told as the attempt's error.
                let _ = self.failure.set(text);
            }
        }
    }

    /// A checkpoint that is not whole counts for nothing: known, it would take the place of a good one
    /// among those that are kept. Its objects stay, for whoever wants to see what became of them.
    async fn forget(&mut self, manifests: Vec<String>) {
        self.known
            .retain(|checkpoint| !manifests.contains(&checkpoint.manifest));
        let dropped = CheckpointsDropped { manifests };
        self.reporter.report(Body::Dropped(dropped)).await;
    }

    /// Deletes what the keep rule gives up.
    async fn sweep(&mut self) {
        let objective = self.objective.as_ref();
        let objective = objective.map(|(metric, mode)| (metric.as_str(), *mode));
        let manifests = to_drop(self.policy, &self.known, objective);
        if manifests.is_empty() {
            return;
        }
        match self.store.delete(&manifests).await {
            Ok(_) => {
                self.known
                    .retain(|checkpoint| !manifests.contains(&checkpoint.manifest));
                let dropped = CheckpointsDropped { manifests };
                self.reporter.report(Body::Dropped(dropped)).await;
            }
            // They stay known, and are tried again with the next.
            Err(error) => self.reporter.warn(&format!(
                "superseded checkpoints could not be deleted: {error}"
            )),
        }
    }
}

pub(super) fn to_wire(checkpoint: &CheckpointRef) -> v1::CheckpointRef {
    v1::CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: metrics_to_wire(&checkpoint.metrics),
    }
}

pub(super) fn from_wire(checkpoint: &v1::CheckpointRef) -> CheckpointRef {
    CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: checkpoint
            .metrics
            .iter()
            .map(|metric| (metric.name.clone(), metric.value))
            .collect(),
    }
}

pub(super) fn metrics_to_wire(metrics: &[(String, f64)]) -> Vec<v1::Metric> {
    metrics
        .iter()
        .map(|(name, value)| v1::Metric {
            name: name.clone(),
            value: *value,
        })
        .collect()
}
