//! What is told of the machine: answers to questions, and a search log replayed.

pub mod pages;
pub(super) mod query;
pub mod replay;

pub use query::recorded_trial;
