//! Checkpoints and artifacts as JSON.

use serde::Serialize;
use trainyard_worker::checkpoint::ArtifactKind;

use super::CheckpointRef;

/// `checkpoint list`: one entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Checkpoint {
    pub(crate) trial_id: u32,
    pub(crate) best: bool,
    pub(crate) latest: bool,
    #[serde(flatten)]
    pub(crate) checkpoint: CheckpointRef,
}

/// `checkpoint list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Checkpoints {
    pub(crate) checkpoint_url: String,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// `checkpoint download`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Downloaded {
    pub(crate) job_id: String,
    pub(crate) trial_id: u32,
    pub(crate) manifest: String,
    pub(crate) directory: String,
    pub(crate) files: Vec<String>,
    pub(crate) bytes: u64,
}

/// `artifact list`: one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Artifact {
    pub(crate) trial_id: u32,
    pub(crate) name: String,
    pub(crate) kind: ArtifactKind,
    pub(crate) bytes: u64,
    /// Files, links and empty folders.
    pub(crate) files: usize,
    pub(crate) attempt: u32,
    pub(crate) made_ms: u64,
    /// Path of the manifest, below the job's `checkpoint_url`.
    pub(crate) manifest: String,
}

/// `artifact list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Artifacts {
    pub(crate) checkpoint_url: String,
    pub(crate) artifacts: Vec<Artifact>,
}

/// `artifact download`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DownloadedArtifact {
    pub(crate) job_id: String,
    pub(crate) trial_id: u32,
    pub(crate) name: String,
    pub(crate) kind: ArtifactKind,
    pub(crate) path: String,
    pub(crate) bytes: u64,
}
