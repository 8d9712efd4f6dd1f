//! Checkpoints: parts first, manifest last, every digest checked on read.
//!
//! Knows nothing of training: what the tensors and the state mean is the trainer's.

mod codec;
mod deletion;
mod download;
mod error;
#[cfg(test)]
mod fuzz;
mod manifest;
mod objects;
mod part;
mod reading;
mod snapshot;
mod staged;
mod store;
#[cfg(test)]
mod tests;
mod uploader;

pub use download::Downloaded;
pub use error::CheckpointError;
pub use manifest::{Manifest, PartEntry};
pub use reading::NewestWhole;
pub use snapshot::{NamedTensor, Owner, Snapshot};
pub use store::CheckpointStore;
pub use trainyard_common::checkpoint::{CheckpointRef, KeepPolicy, to_drop};
pub use uploader::{Retry, Uploader};
