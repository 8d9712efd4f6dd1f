//! Checkpoints: parts first, manifest last, every digest checked on read.
//!
//! Knows nothing of training: what the tensors and the state mean is the trainer's.

mod error;
mod snapshot;
mod store;
mod uploader;

pub use error::CheckpointError;
pub use snapshot::{NamedTensor, Owner, Snapshot};
pub use store::{CheckpointStore, Downloaded};
pub use trainyard_common::checkpoint::{CheckpointRef, KeepPolicy, to_drop};
pub use uploader::Uploader;
