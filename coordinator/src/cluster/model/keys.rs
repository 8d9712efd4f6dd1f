//! Where records lie in the store.

use trainyard_common::ids::{AttemptId, JobId, RequestId, TrialId, WorkerId};

/// Where a record lies in the store; keys sort by job, then number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub String);

pub(crate) fn job_key(job: &JobId) -> Key {
    Key(format!("job/{job}"))
}

pub(crate) fn spec_key(job: &JobId) -> Key {
    Key(format!("spec/{job}"))
}

pub(crate) fn search_key(job: &JobId, index: u32) -> Key {
    Key(format!("search/{job}/{index:010}"))
}

pub(crate) fn trial_key(job: &JobId, trial: TrialId) -> Key {
    Key(format!("trial/{job}/{:010}", trial.0))
}

pub(crate) fn attempt_key(job: &JobId, trial: TrialId, attempt: AttemptId) -> Key {
    Key(format!("attempt/{job}/{:010}/{:010}", trial.0, attempt.0))
}

pub(crate) fn archived_key(job: &JobId) -> Key {
    Key(format!("archived/{job}"))
}

pub(crate) fn removal_key(job: &JobId) -> Key {
    Key(format!("removal/{job}"))
}

/// What the keys of a job's search log begin with, and the last key before entry `from` of it.
pub(crate) fn search_prefix(job: &JobId, from: u32) -> (String, String) {
    let before = from.checked_sub(1);
    let before = before.map_or_else(String::new, |index| search_key(job, index).0);
    (format!("search/{job}/"), before)
}

/// What the keys of a job's trials begin with.
pub(crate) fn trial_prefix(job: &JobId) -> String {
    format!("trial/{job}/")
}

/// Key of a worker's record.
pub(crate) fn worker_key(worker: &WorkerId) -> Key {
    Key(format!("worker/{worker}"))
}

/// Key of the record of whose a worker's id is.
pub(crate) fn identity_key(worker: &WorkerId) -> Key {
    Key(format!("identity/{worker}"))
}

/// Key of a workspace's record.
pub(crate) fn workspace_key(workspace: &str) -> Key {
    Key(format!("workspace/{workspace}"))
}

/// Key of a request's record.
pub(crate) fn request_key(request: &RequestId) -> Key {
    Key(format!("request/{request}"))
}
