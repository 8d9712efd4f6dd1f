//! What is told of the machine: answers to questions, decisions with their reasons, a search replayed.

mod explain;
pub(super) mod query;
pub mod replay;

pub use query::recorded_trial;
