//! What can go wrong with checkpoints.

use trainyard_common::store_url::StoreUrlError;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint store: {0}")]
    Open(#[from] StoreUrlError),
    /// The store did not do what was asked; it may later.
    #[error("checkpoint store {url}: cannot {what}: {reason}")]
    Store {
        url: String,
        /// Such as `write trials/3/000000000010-1.json`.
        what: String,
        reason: String,
    },
    /// An object is missing, cut short or changed.
    #[error("checkpoint store {url}: {object} is not whole: {reason}")]
    Corrupt {
        url: String,
        object: String,
        reason: String,
    },
    /// Another attempt wrote a manifest of this name.
    #[error("checkpoint store {url}: {manifest} exists already with another content")]
    Conflict { url: String, manifest: String },
    #[error(
        "checkpoint store {url}: it cannot create an object only if there is none (needed for manifests): {reason}"
    )]
    NoConditionalCreate { url: String, reason: String },
    #[error("{manifest} has format {found}; this program reads up to {known}: use a newer one")]
    NewerFormat {
        manifest: String,
        found: u64,
        known: u64,
    },
    /// This machine cannot hold it; one with more memory can.
    #[error("{manifest} has {bytes} bytes: out of memory")]
    Memory { manifest: String, bytes: u64 },
    #[error("snapshot: {0}")]
    Snapshot(String),
    #[error("cannot write {path}: {reason}")]
    Local { path: String, reason: String },
    #[error("cannot read {path}: {reason}")]
    LocalRead { path: String, reason: String },
    #[error("{manifest} holds {found}, expected {expected}")]
    OtherKind {
        manifest: String,
        found: &'static str,
        expected: &'static str,
    },
}

impl CheckpointError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    /// Whether the checkpoint itself is at fault, so that an earlier one is worth trying.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
