//! What goes into the machine and what comes out.

mod types;

pub use types::*;

pub use super::fleet::vitality::WorkerState;
pub use super::view::query::{
    AttemptSummary, ClusterSummary, TrialSummary, WorkerSummary, WorkspaceSummary,
};
