//! Turns what a trainer tells into reports, log lines and uploads. Runs on the attempt's thread.

use tokio::runtime::Handle;
use trainyard_proto::v1::{self, report::Body};

use super::retention::{Failure, metrics_to_wire};
use crate::attempt::Stop;
use crate::checkpoint::{Snapshot, Uploader};
use crate::outbox::Reporter;
use crate::train::{Observer, Progress, SnapshotReason, Started, StopMode};

pub(super) struct AttemptObserver {
    pub(super) reporter: Reporter,
    pub(super) runtime: Handle,
    /// Of rank 0.
    pub(super) uploader: Option<Uploader>,
    /// Set once a checkpoint could not be saved.
    pub(super) failure: Failure,
    /// Whether a snapshot was given up because of a stop.
    pub(super) given_up: bool,
    /// The last step that was heard of.
    pub(super) step: u64,
    pub(super) epochs_total: u64,
}

impl AttemptObserver {
    /// Only rank 0 speaks of the run; the others only of their end.
    fn report(&self, body: Body) {
        if self.reporter.key.rank == 0 {
            // A report left out or of an abandoned attempt has no ticket: nothing to wait for here.
            let _ = self.runtime.block_on(self.reporter.report(body));
        }
    }

    fn info(&self, text: &str) {
        if self.reporter.key.rank == 0 {
            self.reporter.info(text);
        }
    }
}

impl Observer for AttemptObserver {
    fn started(&mut self, started: &Started) {
        self.step = started.from_step;
        self.reporter.activity.reached(started.from_step);
        self.epochs_total = started.epochs_total;
        self.info(&format!(
            "training from step {} of {}, {} epochs, {} parameters",
            started.from_step, started.steps_total, started.epochs_total, started.parameters
        ));
        self.report(Body::Started(v1::Started {
            from_step: started.from_step,
            steps_total: started.steps_total,
            epochs_total: started.epochs_total,
            parameters: started.parameters,
        }));
    }

    fn progress(&mut self, progress: &Progress) {
        self.step = progress.step;
        self.reporter.activity.reached(progress.step);
        if progress.end_of_epoch {
            let metrics: Vec<String> = progress
                .metrics
                .iter()
                .map(|(name, value)| format!("{name} {value:.6}"))
                .collect();
            self.info(&format!(
                "epoch {}/{}, step {}: {}",
                progress.epoch,
                self.epochs_total,
                progress.step,
                metrics.join(", ")
            ));
        }
        self.report(Body::Progress(v1::Progress {
            step: progress.step,
            epoch: progress.epoch,
            metrics: metrics_to_wire(&progress.metrics),
            end_of_epoch: progress.end_of_epoch,
            ..v1::Progress::default()
        }));
    }

    fn snapshot(&mut self, snapshot: Option<Snapshot>, reason: SnapshotReason) {
        if let (Some(snapshot), Some(uploader)) = (snapshot, &self.uploader) {
            tracing::debug!(step = snapshot.step, ?reason, "snapshot taken");
            self.step = snapshot.step;
            let now = self.reporter.stop.reached(Stop::Now);
            self.given_up |= !uploader.submit_unless(snapshot, now);
        }
    }

    fn stop_requested(&self) -> Option<StopMode> {
        // Asked before every step and between validation batches.
        self.reporter.activity.sign();
        if self.failure.get().is_some() {
            return Some(StopMode::Now);
        }
        self.reporter.stop.get().map(|stop| match stop {
            Stop::Checkpoint => StopMode::Checkpoint,
            Stop::Now | Stop::Abandoned => StopMode::Now,
        })
    }
}
