//! The exit codes of `coordinatorctl` and the one error type that carries them.
//!
//! Every verb returns an [`Outcome`]; `print::report` is the only place that turns one into a process exit.

use std::fmt;

use tonic::Status;

/// What the process ends with. Documented in `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Success = 0,
    /// The job or its trials failed, or something went wrong that has no code of its own.
    Failed = 1,
    /// Bad usage, a bad spec, or a request that the present state does not allow.
    Usage = 2,
    /// No connection to the coordinator or to a store.
    Unreachable = 3,
    NotFound = 4,
    /// `wait --timeout` ran out; the number is that of timeout(1).
    TimedOut = 124,
    /// Interrupted by the person; the job can go on.
    Interrupted = 130,
}

/// Why a verb did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What is said on standard error; empty when everything has been said.
    pub(crate) message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Code::Unreachable, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Ends the process without another word.
    pub(crate) fn quiet(code: Code) -> Self {
        Self::new(code, "")
    }

    /// A coordinator's refusal, in a person's words. `address` is where it was asked.
    pub(crate) fn from_status(status: &Status, address: &str) -> Self {
        use tonic::Code as Grpc;
        let message = status.message();
        match status.code() {
            Grpc::NotFound => Self::not_found(message),
            Grpc::InvalidArgument
            | Grpc::FailedPrecondition
            | Grpc::AlreadyExists
            | Grpc::OutOfRange
            | Grpc::Unimplemented => Self::usage(message),
            Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Unknown | Grpc::Cancelled => {
                Self::unreachable(format!(
                    "lost the coordinator at {address}: {}",
                    if message.is_empty() {
                        "no answer"
                    } else {
                        message
                    }
                ))
            }
            code => Self::failed(format!(
                "the coordinator at {address} failed: {code}: {message}"
            )),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_documented_codes() {
        let cases = [
            (Status::not_found("no job"), Code::NotFound),
            (Status::invalid_argument("searcher.name: x"), Code::Usage),
            (Status::failed_precondition("memory://"), Code::Usage),
            (Status::unavailable("gone"), Code::Unreachable),
            (Status::deadline_exceeded("slow"), Code::Unreachable),
            (Status::unknown("transport error"), Code::Unreachable),
            (Status::internal("disk full"), Code::Failed),
        ];
        for (status, code) in cases {
            let failure = Failure::from_status(&status, "http://10.0.0.1:7070");
            assert_eq!(failure.code, code, "{status:?}");
            assert!(failure.message.contains(status.message()), "{failure}");
        }
        let lost = Failure::from_status(&Status::unavailable(""), "http://10.0.0.1:7070");
        assert_eq!(
            lost.message,
            "lost the coordinator at http://10.0.0.1:7070: no answer"
        );
    }

    #[test]
    fn codes_are_the_documented_numbers() {
        let codes = [
            Code::Success,
            Code::Failed,
            Code::Usage,
            Code::Unreachable,
            Code::NotFound,
            Code::TimedOut,
            Code::Interrupted,
        ];
        assert_eq!(codes.map(|code| code as u8), [0, 1, 2, 3, 4, 124, 130]);
    }
}
