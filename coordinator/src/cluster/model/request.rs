//! What was asked already, and the counters of what was numbered.

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{JobId, RequestId};

/// What a request led to, so that it acts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub request: RequestId,
    /// Order of arrival; the oldest are forgotten first.
    pub number: u64,
    /// Of what was asked (FNV-1a), so that another request under the same id is noticed.
    pub digest: u64,
    pub job: JobId,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CountersRecord {
    pub next_job: u64,
    pub next_request: u64,
    /// [`crate::cluster::api::MachineConfig::cluster`] of the first process.
    #[serde(default)]
    pub cluster: u32,
    /// [`crate::cluster::api::MachineConfig::directory_url`] of the process that has written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_url: Option<String>,
}
