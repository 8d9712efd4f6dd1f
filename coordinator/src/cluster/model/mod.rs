//! What there is: jobs, trials, attempts, workers, as they are persisted and as they are held in memory.

mod records;
mod state;

pub use records::*;
pub(in crate::cluster) use state::*;

pub use super::api::{AttemptRef, RankRef, SessionId, WorkerInfo};
pub(in crate::cluster) use super::fleet::vitality::Progress;
pub use super::view::query::{JobSummary, TrialCounts};
