//! How an attempt ended, and how that is told.

use trainyard_common::store_url::redacted;
use trainyard_common::text::{Keep, printable, within};
use trainyard_proto::v1::{AttemptOutcome, Ended, Metric, report::Body};

use super::Stop;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) outcome: AttemptOutcome,
    /// As it was met; to people it is [`shown`](Self::shown).
    pub(crate) error: String,
    pub(crate) step: u64,
    pub(crate) test_metrics: Vec<Metric>,
}

/// The longest error that is reported, in bytes.
const MAX_ERROR_BYTES: usize = 4096;

impl End {
    pub(crate) fn completed(step: u64) -> Self {
        Self::new(AttemptOutcome::Completed, String::new(), step)
    }

    /// The end at the epoch that the assignment named.
    pub(crate) fn paused(step: u64) -> Self {
        Self::new(AttemptOutcome::Paused, String::new(), step)
    }

    pub(crate) fn error(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::Error, message.to_string(), step)
    }

    /// The end by lack of memory.
    pub(crate) fn out_of_memory(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::OutOfMemory, message.to_string(), step)
    }

    /// The end by something that every other try of this configuration would meet as well.
    pub(crate) fn infeasible(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::Infeasible, message.to_string(), step)
    }

    pub(crate) fn new(outcome: AttemptOutcome, error: String, step: u64) -> Self {
        Self {
            outcome,
            error,
            step,
            test_metrics: Vec::new(),
        }
    }

    /// The end of an attempt that left because it was told to.
    pub(crate) fn stopped(stop: Stop, step: u64) -> Self {
        let outcome = match stop {
            Stop::Checkpoint => AttemptOutcome::Preempted,
            Stop::Now | Stop::Abandoned => AttemptOutcome::Cancelled,
        };
        Self::new(outcome, String::new(), step)
    }

    /// The error without what a terminal would obey, and without passwords: it may quote programs, files and URLs.
    pub(crate) fn shown(&self) -> String {
        let short = within(self.error.clone(), MAX_ERROR_BYTES);
        let shown = printable(&redacted(&short), Keep::Lines).into_owned();
        within(shown, MAX_ERROR_BYTES)
    }

    /// Its error can be shown to anybody.
    pub(crate) fn into_body(self) -> Body {
        Body::Ended(Ended {
            outcome: self.outcome.into(),
            error: self.shown(),
            step: self.step,
            test_metrics: self.test_metrics,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_short_and_holds_nothing_that_a_terminal_obeys_and_no_password() {
        let told = |error: &str| match End::error(error, 0).into_body() {
            Body::Ended(ended) => ended.error,
            other => panic!("{other:?}"),
        };
        let error = told("cannot read http://me:secret@host/a.csv: \u{1b}]0;x");
        assert!(
            !error.contains("secret") && !error.contains('\u{1b}'),
            "{error}"
        );
        assert!(error.contains("host/a.csv"), "{error}");
        assert!(told(&"\u{1b}".repeat(5_000)).len() < MAX_ERROR_BYTES + 40);
    }
}
