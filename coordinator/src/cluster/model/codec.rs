//! The stored form of records.
//!
//! Each record is one JSON object with a format version, written whole whenever it changes. Nothing
//! here decides anything.

use serde::{Deserialize, Serialize};

use super::archive::{ArchivedRecord, RemovalRecord};
use super::attempt::AttemptRecord;
use super::job::{JobRecord, SpecRecord};
use super::keys::{
    Key, archived_key, attempt_key, identity_key, job_key, removal_key, request_key, search_key,
    spec_key, trial_key, worker_key, workspace_key,
};
use super::request::{CountersRecord, RequestRecord};
use super::search_log::SearchRecord;
use super::trial::TrialRecord;
use super::worker::{IdentityRecord, WorkerRecord};
use super::workspace::WorkspaceRecord;

/// Version of the form below. Raise it when an older program would misread what is written.
pub const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    Counters(CountersRecord),
    Request(RequestRecord),
    Job(Box<JobRecord>),
    Spec(Box<SpecRecord>),
    Search(SearchRecord),
    Trial(Box<TrialRecord>),
    Attempt(Box<AttemptRecord>),
    Worker(WorkerRecord),
    Identity(IdentityRecord),
    Workspace(WorkspaceRecord),
    Archived(Box<ArchivedRecord>),
    Removal(RemovalRecord),
}

impl Record {
    pub fn key(&self) -> Key {
        Key(match self {
            Self::Counters(_) => "counters".to_owned(),
            Self::Request(r) => return request_key(&r.request),
            Self::Worker(r) => return worker_key(&r.worker),
            Self::Identity(r) => return identity_key(&r.worker),
            Self::Workspace(r) => return workspace_key(&r.workspace),
            Self::Job(r) => return job_key(&r.job),
            Self::Spec(r) => return spec_key(&r.job),
            Self::Search(r) => return search_key(&r.job, r.index),
            Self::Trial(r) => return trial_key(&r.job, r.trial),
            Self::Attempt(r) => return attempt_key(&r.job, r.trial, r.attempt),
            Self::Archived(r) => return archived_key(&r.summary.job),
            Self::Removal(r) => return removal_key(&r.job),
        })
    }

    /// The stored form: UTF-8 JSON.
    ///
    /// # Errors
    /// `Corrupt` where a value has no JSON form, which no record of the machine has.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let written = Written {
            version: FORMAT_VERSION,
            record: self,
        };
        serde_json::to_vec(&written).map_err(|error| RecordError::Corrupt {
            key: self.key().0,
            message: error.to_string(),
        })
    }

    /// Reads a stored form. A newer version is refused before anything else is looked at.
    ///
    /// # Errors
    /// Each names the key.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        let corrupt = |error: serde_json::Error| RecordError::Corrupt {
            key: key.to_owned(),
            message: error.to_string(),
        };
        let Head { version, record } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version > FORMAT_VERSION {
            return Err(RecordError::Newer {
                key: key.to_owned(),
                found: version,
            });
        }
        let record = Self::read(&record, bytes).map_err(corrupt)?;
        let actual = record.key().0;
        if actual != key {
            return Err(RecordError::Misplaced {
                key: key.to_owned(),
                actual,
            });
        }
        Ok(record)
    }

    /// Reads a record of a kind. A tagged enum of serde's own would first take every value apart and
    /// then read it again from the parts; a take-over reads many.
    fn read(kind: &str, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "counters" => Self::Counters(serde_json::from_slice(bytes)?),
            "request" => Self::Request(serde_json::from_slice(bytes)?),
            "job" => Self::Job(serde_json::from_slice(bytes)?),
            "spec" => Self::Spec(serde_json::from_slice(bytes)?),
            "search" => Self::Search(serde_json::from_slice(bytes)?),
            "trial" => Self::Trial(serde_json::from_slice(bytes)?),
            "attempt" => Self::Attempt(serde_json::from_slice(bytes)?),
            "worker" => Self::Worker(serde_json::from_slice(bytes)?),
            "identity" => Self::Identity(serde_json::from_slice(bytes)?),
            // The error names the kinds that there are.
            _ => serde_json::from_slice(bytes)?,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(
        "record {key} has format version {found}, newer than {FORMAT_VERSION}, the newest that this \
         program knows; start the version that wrote it, or a newer one"
    )]
    Newer { key: String, found: u32 },
    #[error("record {key} cannot be read: {message}")]
    Corrupt { key: String, message: String },
    #[error("record {key} holds a record of key {actual}")]
    Misplaced { key: String, actual: String },
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    record: &'a Record,
}

/// What tells how the rest is read.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    record: String,
}
