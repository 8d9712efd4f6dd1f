//! The training engine: optimizers and the loop over epochs, steps and virtual shards.
//!
//! Usable as a library: it knows nothing of the cluster, of stores or of processes. What it computes
//! is a function of (spec, seed, data): neither the number of ranks nor of threads, nor being stopped
//! and restored, changes a bit of it.

mod agreement;
mod average;
mod batches;
mod building;
mod clipping;
mod error;
mod evaluation;
#[cfg(test)]
mod faulty_machines;
mod groups;
mod judging;
mod observer;
mod optimizers;
mod pretrained;
mod rates;
#[cfg(test)]
mod recipes;
mod replay;
mod settings;
mod shard;
mod state;
#[cfg(test)]
mod tests;
mod totals;
mod trainer;
mod verification;

pub use error::TrainError;
pub use observer::{
    Finish, Metrics, Observer, PartName, Progress, SnapshotReason, Started, StopMode,
};
pub use replay::{Difference, Replayed, Stretch, replay};
pub use state::{TrainedOn, trained_on};
pub use trainer::Trainer;
