//! What can go wrong in a call, and the one function that turns it into a gRPC status.

use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::SpecErrors;
use trainyard_proto::LEADER_METADATA;

use crate::archive::ArchiveError;
use crate::cluster::api::Rejection;
use crate::driver::CallError;
use crate::driver::series::SeriesError;
use crate::store::StoreError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Every error of the spec, one a line.
    #[error("{0}")]
    Spec(#[from] SpecErrors),
    /// A field of the request is not acceptable.
    #[error("{field}: {given} is not accepted; expected {expected}")]
    Field {
        field: &'static str,
        given: String,
        expected: String,
    },
    #[error("no job {0}")]
    NoJob(JobId),
    #[error("job {job} has no trial {trial}")]
    NoTrial { job: JobId, trial: TrialId },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the stored series of job {job}, trial {trial}: {error}")]
    Series {
        job: JobId,
        trial: TrialId,
        error: SeriesError,
    },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the archive of job {job}: {reason}")]
    Archived { job: JobId, reason: String },
    #[error("{0}")]
    Checkpoints(String),
    #[error("the answer could not be made: {0}")]
    Internal(String),
}

impl ApiError {
    pub(crate) fn field(
        field: &'static str,
        given: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Field {
            field,
            given: given.to_string(),
            expected: expected.into(),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        status(&error)
    }
}

/// The status of every error that a client or a worker can see. `Unavailable` alone asks for a retry.
pub(crate) fn status(error: &ApiError) -> Status {
    let text = error.to_string();
    match error {
        ApiError::Spec(_) | ApiError::Field { .. } => Status::invalid_argument(text),
        ApiError::NoJob(_) | ApiError::NoTrial { .. } => Status::not_found(text),
        ApiError::Series { .. }
        | ApiError::Archived { .. }
        | ApiError::Archive(ArchiveError::Damaged { .. }) => Status::data_loss(text),
        ApiError::Archive(ArchiveError::Store { .. }) => Status::unavailable(text),
        ApiError::Checkpoints(_) => Status::failed_precondition(text),
        ApiError::Internal(_) => Status::internal(text),
        ApiError::Call(call) => call_status(call),
    }
}

/// Names the leader in the metadata too, where clients look for it.
fn not_leading(text: String, leader: Option<&str>) -> Status {
    let mut status = Status::unavailable(text);
    if let Some(leader) = leader.and_then(|leader| leader.parse().ok()) {
        status.metadata_mut().insert(LEADER_METADATA, leader);
    }
    status
}

/// As [`status`], of the errors that end a session.
pub(crate) fn call_status(error: &CallError) -> Status {
    let text = error.to_string();
    match error {
        CallError::NotLeading { leader } => not_leading(text, leader.as_deref()),
        CallError::Stopped | CallError::Disconnected => Status::unavailable(text),
        CallError::TooMany { .. } | CallError::TooSlow { .. } => Status::resource_exhausted(text),
        CallError::Replaced(_) => Status::aborted(text),
        CallError::Malformed(_) => Status::invalid_argument(text),
        CallError::Store(StoreError::Deposed { .. }) => Status::unavailable(text),
        CallError::Store(StoreError::DiskFull { .. }) => Status::resource_exhausted(text),
        CallError::Store(error) if error.is_retryable() => Status::unavailable(text),
        CallError::Store(_) => Status::internal(text),
        CallError::Rejected(rejection) => match rejection {
            Rejection::UnknownJob(_)
            | Rejection::UnknownTrial { .. }
            | Rejection::UnknownWorker { .. } => Status::not_found(text),
            Rejection::RequestReused(_) => Status::already_exists(text),
            Rejection::Deposed { .. }
            | Rejection::Ended { .. }
            | Rejection::NotEnded { .. }
            | Rejection::Archived { .. }
            | Rejection::Leaving { .. } => Status::failed_precondition(text),
            _ => Status::invalid_argument(text),
        },
    }
}
