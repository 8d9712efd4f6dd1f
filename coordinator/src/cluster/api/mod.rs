//! What goes into the machine and what comes out. Plain data.

mod answer;
mod config;
mod effect;
mod event;
mod rejection;
mod wire;

pub use answer::{
    AttemptSummary, ClusterSummary, Reply, TrialSummary, WorkerState, WorkerSummary,
    WorkspaceSummary,
};
pub use config::MachineConfig;
pub use effect::{Effect, SeriesDecision, SeriesLog, SeriesPoint, Step};
pub use event::{Event, WorkspaceChange};
pub use rejection::Rejection;
pub use wire::{Assignment, LogText, Point, Report, ReportBody, ToWorker};
