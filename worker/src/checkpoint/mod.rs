//! Checkpoints: parts first, manifest last, every digest checked on read.
//!
//! What is saved is a trainer's tensors (`snapshot`) or a program's folder (`folder`); beside checkpoints a trial
//! keeps artifacts (`artifacts`). Knows nothing of training:
//! what the tensors, the state and the files mean is the trainer's.

mod artifacts;
mod codec;
mod deletion;
mod download;
mod error;
mod folder;
#[cfg(test)]
mod fuzz;
mod listing;
mod manifest;
mod objects;
mod part;
mod reading;
mod restore;
mod snapshot;
mod staged;
mod store;
#[cfg(test)]
mod tests;
mod uploader;

pub use artifacts::{
    Artifact, ArtifactKind, ArtifactManifest, ArtifactSnapshot, check_name as check_artifact_name,
};
pub use download::Downloaded;
pub use error::CheckpointError;
pub use folder::{FolderSnapshot, scan};
pub use listing::{Entry, MAX_ENTRIES, check as check_listing};
pub use manifest::{Manifest, PartEntry};
pub use reading::{Held, NewestWhole};
pub(crate) use restore::Unpacker;
pub use snapshot::{Owner, Snapshot};
pub use store::CheckpointStore;
pub use trainyard_common::checkpoint::{CheckpointRef, KeepPolicy, to_drop};
pub use trainyard_network::NamedTensor;
pub use uploader::{Retry, Uploader};
