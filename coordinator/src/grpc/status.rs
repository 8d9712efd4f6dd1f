//! What can go wrong in a call, and the one function that turns it into a gRPC status, whose message fits
//! the header that carries it.

use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::SpecErrors;
use trainyard_common::text;
use trainyard_proto::LEADER_METADATA;

use super::limits::Refused;
use crate::archive::ArchiveError;
use crate::bundles::BundleError;
use crate::cluster::api::Rejection;
use crate::driver::CallError;
use crate::driver::series::SeriesError;
use crate::store::StoreError;

/// Longest message of a status as it is sent, in bytes. It is one header, with what is no plain character escaped to
/// three bytes each; clients take 16 KiB of headers, proxies half as much, and an answer beyond that
/// reaches the client as another error than it is.
const MAX_MESSAGE: usize = 6 * 1024;

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
    /// The same, of what a worker sends.
    #[error(transparent)]
    Limit(#[from] Refused),
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
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(
        "entrypoint.bundle: {digest} is not in {folder}; submit the folder with `ship` by coordinatorctl, or send the bundle by UploadBundle, before a job names it"
    )]
    NoBundle { digest: String, folder: String },
    /// Something that others use was not free in time.
    #[error("{0}; ask again")]
    Busy(String),
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

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        Self::Malformed(refused.to_string())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        status(&error)
    }
}

/// The status of every error that a client or a worker can see. `Unavailable` alone asks for a retry.
pub(crate) fn status(error: &ApiError) -> Status {
    let text = message(&error.to_string());
    match error {
        ApiError::Spec(_) | ApiError::Field { .. } | ApiError::Limit(_) => {
            Status::invalid_argument(text)
        }
        ApiError::NoJob(_) | ApiError::NoTrial { .. } => Status::not_found(text),
        ApiError::Series { .. }
        | ApiError::Archived { .. }
        | ApiError::Archive(ArchiveError::Damaged { .. }) => Status::data_loss(text),
        ApiError::Archive(ArchiveError::Store { .. }) | ApiError::Busy(_) => {
            Status::unavailable(text)
        }
        ApiError::Checkpoints(_) | ApiError::Bundle(_) | ApiError::NoBundle { .. } => {
            Status::failed_precondition(text)
        }
        ApiError::Internal(_) => Status::internal(text),
        ApiError::Call(call) => call_status(call),
    }
}

/// As much of an error's text as a header takes. Every status is made of what this returns.
pub(crate) fn message(text: &str) -> String {
    let text = &*text::short_numbers(text);
    let mut sent = 0;
    let end = text.char_indices().find(|(_, c)| {
        sent += match c {
            c if c.is_ascii_alphanumeric() || "-_.,:;/()=".contains(*c) => 1,
            c => 3 * c.len_utf8(),
        };
        sent > MAX_MESSAGE
    });
    match end {
        Some((end, _)) => text::shortened(text, end).into_owned(),
        None => text.to_owned(),
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
    let text = message(&error.to_string());
    match error {
        CallError::NotLeading { leader } => not_leading(text, leader.as_deref()),
        CallError::Stopped | CallError::Disconnected => Status::unavailable(text),
        CallError::TooMany(_) | CallError::TooSlow { .. } => Status::resource_exhausted(text),
        CallError::NotReceived(_) => Status::unavailable(text),
        CallError::Replaced(_) => Status::aborted(text),
        CallError::Malformed(_) => Status::invalid_argument(text),
        CallError::Store(StoreError::Deposed { .. }) => Status::unavailable(text),
        CallError::Store(StoreError::DiskFull { .. }) => Status::resource_exhausted(text),
        CallError::Store(StoreError::Damaged { .. } | StoreError::DamagedEntry { .. }) => {
            Status::data_loss(text)
        }
        CallError::Store(error) if error.is_retryable() => Status::unavailable(text),
        CallError::Store(_) => Status::internal(text),
        CallError::Rejected(rejection) => match rejection {
            Rejection::UnknownJob(_)
            | Rejection::UnknownTrial { .. }
            | Rejection::UnknownWorker { .. } => Status::not_found(text),
            Rejection::RequestReused(_) => Status::already_exists(text),
            Rejection::Asleep(_) | Rejection::Loading(_) => Status::unavailable(text),
            Rejection::Specs { .. } => Status::resource_exhausted(text),
            Rejection::Deposed { .. }
            | Rejection::Ended { .. }
            | Rejection::NotEnded { .. }
            | Rejection::Archived { .. }
            | Rejection::SetAside { .. }
            | Rejection::Retry { .. }
            | Rejection::Connected { .. }
            | Rejection::Leaving { .. } => Status::failed_precondition(text),
            Rejection::Impostor { .. } => Status::permission_denied(text),
            _ => Status::invalid_argument(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use trainyard_common::spec::SpecError;

    use super::*;

    /// Bytes of a status's headers, escaped as they are sent.
    fn sent(status: &Status) -> usize {
        let response = status.clone().into_http::<()>();
        response.headers().values().map(|value| value.len()).sum()
    }

    #[test]
    fn every_error_keeps_its_code_and_fits_a_header() {
        for text in ["x", "ü", "\n", "%", " ", "`", "日本", "a line\n"] {
            let long = text.repeat(1 << 20);
            let spec = SpecErrors(vec![SpecError::new("data", &*long); 1_000]);
            let errors = [
                (ApiError::from(spec), tonic::Code::InvalidArgument),
                (
                    ApiError::field("name", &long, "less"),
                    tonic::Code::InvalidArgument,
                ),
                (
                    ApiError::Checkpoints(long.clone()),
                    tonic::Code::FailedPrecondition,
                ),
                (ApiError::Internal(long.clone()), tonic::Code::Internal),
                (
                    ApiError::Call(CallError::Malformed(long.clone())),
                    tonic::Code::InvalidArgument,
                ),
            ];
            for (error, code) in errors {
                let status = status(&error);
                assert_eq!(status.code(), code);
                assert!(sent(&status) < 8 * 1024, "{}", sent(&status));
                assert!(
                    status.message().contains(" bytes more)"),
                    "{}",
                    status.message()
                );
            }
        }
        assert_eq!(message("no job x"), "no job x");
    }
}
