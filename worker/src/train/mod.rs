//! The training engine: optimizers and the loop over epochs, steps and virtual shards.
//!
//! Usable as a library: it knows nothing of the cluster, of stores or of processes. What it computes
//! is a function of (spec, seed, data): neither the number of ranks nor of threads, nor being stopped
//! and restored, changes a bit of it.

mod agreement;
mod batches;
mod error;
mod evaluation;
mod observer;
mod optimizer;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod totals;
mod trainer;

pub use error::TrainError;
pub use observer::{
    Finish, Metrics, Observer, PartName, Progress, SnapshotReason, Started, StopMode,
};
pub use trainer::Trainer;
