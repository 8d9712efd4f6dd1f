//! What becomes of a trial whose attempt did not end well: kinds of failures, and a policy for each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why an attempt did not end well.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Stopped so that its slots could be given away: a drained or leaving worker, a higher priority.
    Preempted,
    /// Its worker was lost.
    NodeLost,
    /// Its worker lived, but the attempt made no progress for longer than `hang_timeout`.
    Hung,
    /// It needed more memory than there was.
    OutOfMemory,
    /// The loss or a parameter was not a number.
    Nan,
    /// The program or the trainer says that this configuration cannot be.
    Infeasible,
    /// Everything else.
    Error,
}

impl FailureKind {
    /// All of them, in the order of the spec.
    pub const ALL: [Self; 7] = [
        Self::Preempted,
        Self::NodeLost,
        Self::Hung,
        Self::OutOfMemory,
        Self::Nan,
        Self::Infeasible,
        Self::Error,
    ];

    /// The word for it in specs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::NodeLost => "node_lost",
            Self::Hung => "hung",
            Self::OutOfMemory => "out_of_memory",
            Self::Nan => "nan",
            Self::Infeasible => "infeasible",
            Self::Error => "error",
        }
    }
}

/// What a failure of one kind leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Try again from the last checkpoint, at most `max_restarts` times.
    Retry,
    /// Try again without counting it against `max_restarts`; but after ten failures in a row without a
    /// new checkpoint in between the trial fails. Preemptions are not limited.
    RetryUncounted,
    /// The trial has failed; the search learns why and goes on.
    FailTrial,
    /// The job fails with this trial.
    FailJob,
}

/// An action for each kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailurePolicySpec {
    /// Stopped so that its slots could be given away.
    pub preempted: FailureAction,
    /// Its worker was lost.
    pub node_lost: FailureAction,
    /// No progress for longer than `hang_timeout`.
    pub hung: FailureAction,
    /// It needed more memory than there was.
    pub out_of_memory: FailureAction,
    /// The loss was not a number.
    pub nan: FailureAction,
    /// The program or the trainer says that this configuration cannot be.
    pub infeasible: FailureAction,
    /// Everything else.
    pub error: FailureAction,
}

impl Default for FailurePolicySpec {
    fn default() -> Self {
        Self {
            preempted: FailureAction::RetryUncounted,
            node_lost: FailureAction::RetryUncounted,
            hung: FailureAction::RetryUncounted,
            // The same computation on the same kind of machine would end the same.
            out_of_memory: FailureAction::FailTrial,
            nan: FailureAction::FailTrial,
            infeasible: FailureAction::FailTrial,
            error: FailureAction::Retry,
        }
    }
}

impl FailurePolicySpec {
    pub fn action(&self, kind: FailureKind) -> FailureAction {
        match kind {
            FailureKind::Preempted => self.preempted,
            FailureKind::NodeLost => self.node_lost,
            FailureKind::Hung => self.hung,
            FailureKind::OutOfMemory => self.out_of_memory,
            FailureKind::Nan => self.nan,
            FailureKind::Infeasible => self.infeasible,
            FailureKind::Error => self.error,
        }
    }
}

/// The pause before a failed trial is tried again: `first` seconds, doubled each time up to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBackoffSpec {
    /// Before the first retry, in seconds.
    pub first: f64,
    /// The longest pause, in seconds; at least `first`.
    pub cap: f64,
}

/// Longest pause that may be asked for, in seconds: who wants to wait a day has another problem.
pub(super) const MAX_BACKOFF: f64 = 86_400.0;

impl Default for RetryBackoffSpec {
    fn default() -> Self {
        Self {
            first: 1.0,
            cap: 60.0,
        }
    }
}

impl RetryBackoffSpec {
    /// Milliseconds to wait after so many earlier failures in a row.
    pub fn pause_ms(&self, failures: u32) -> u64 {
        // Powers of two are exact, and the product saturates at the cap.
        let doubled = self.first * f64::from(1u32 << failures.min(30));
        (doubled.min(self.cap).clamp(0.0, MAX_BACKOFF) * 1_000.0) as u64
    }

    /// The longest pause, in milliseconds.
    pub fn cap_ms(&self) -> u64 {
        (self.cap.clamp(0.0, MAX_BACKOFF) * 1_000.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let backoff = RetryBackoffSpec {
            first: 0.5,
            cap: 3.0,
        };
        let pauses: Vec<u64> = (0..5).map(|n| backoff.pause_ms(n)).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 3_000, 3_000]);
        assert_eq!(backoff.pause_ms(u32::MAX), backoff.cap_ms());
        let none = RetryBackoffSpec {
            first: 0.0,
            cap: 0.0,
        };
        assert_eq!(none.pause_ms(7), 0);
    }

    #[test]
    fn every_kind_has_its_word_and_its_field() {
        let written = serde_json::to_value(FailurePolicySpec::default()).unwrap();
        let fields: Vec<&String> = written.as_object().unwrap().keys().collect();
        let words: Vec<&str> = FailureKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(fields, words);
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}
