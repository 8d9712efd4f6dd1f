//! What a trainer tells, and how it is told to stop.

use crate::checkpoint::Snapshot;

/// Metrics by name, in the order of the spec.
pub type Metrics = Vec<(String, f64)>;

/// Follows one run of a trainer. Every rank calls it, at the same steps.
pub trait Observer {
    /// Before the first step.
    fn started(&mut self, started: &Started);

    /// Every `report_every_steps` steps and at the end of each epoch.
    fn progress(&mut self, progress: &Progress);

    /// A checkpoint is due. Only rank 0 gets a snapshot: it holds everything, as all ranks are equal.
    /// The trainer goes on when this returns, so that time spent here is a stall.
    fn snapshot(&mut self, snapshot: Option<Snapshot>, reason: SnapshotReason);

    /// Asked before every step and between validation batches. One rank that wants to stop stops all
    /// of them after the same step.
    fn stop_requested(&self) -> Option<StopMode>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopMode {
    /// With a snapshot, so that the run can go on later from here.
    Checkpoint,
    /// At once, without one.
    Now,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Every epoch was trained.
    Completed,
    /// It was asked to stop.
    Stopped,
    /// It trained as far as it was to: see [`super::Trainer::pause_after`].
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotReason {
    /// `every_epochs`; the snapshot carries the epoch's metrics.
    Epoch,
    /// `every_steps`; without metrics, which belong to whole epochs, unless it ends one.
    Step,
    /// A stop with [`StopMode::Checkpoint`], or the epoch after which to pause.
    Stop,
    /// Training is complete and the last epoch was not due for a checkpoint.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Steps that were taken before (0 unless restored).
    pub from_step: u64,
    pub steps_total: u64,
    pub epochs_total: u64,
    /// Trainable parameters.
    pub parameters: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Optimizer steps taken.
    pub step: u64,
    /// Complete epochs.
    pub epoch: u64,
    /// Means over the samples since the epoch began; at its end with `validation_*` too.
    pub metrics: Metrics,
    pub end_of_epoch: bool,
}

/// A part of the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartName {
    Train,
    Validation,
    Test,
}

impl PartName {
    /// What the names of this part's metrics begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Train => "",
            Self::Validation => "validation_",
            Self::Test => "test_",
        }
    }
}
