//! What is kept of jobs that have left the records.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::JobId;

use super::summary::JobSummary;

/// Where an archive lies. It exists once a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRef {
    /// Folder below the job's archives.
    pub name: String,
    /// BLAKE3 of its index object, hexadecimal; the index has the digests of the rest.
    pub digest: String,
    /// Size of all its objects.
    pub bytes: u64,
}

/// What is kept of an archived job: what lists show, and where the rest lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedRecord {
    /// As in `JobRecord`.
    pub number: u64,
    pub summary: JobSummary,
    pub archive: ArchiveRef,
}

/// A job that is gone, and what is still to be removed of it besides its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    pub job: JobId,
    /// Of the job's archives this one stays.
    pub keep: Option<String>,
    /// Checkpoints that go, too.
    pub checkpoint_url: Option<String>,
    /// The bundle of code that it has named; goes unless another job names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_url: Option<String>,
}
