//! Identifiers. Each is its own type, so that a trial cannot be taken for an attempt.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id! {
    /// A submitted job: the spec's name and a number, such as `digits-3`.
    JobId
}
text_id! {
    /// One worker process, for as long as it lives.
    WorkerId
}
text_id! {
    /// Chosen by a client, the same at every retry of one request.
    RequestId
}
number_id! {
    /// A trial within its job: 0, 1, 2... in the order of suggestion.
    TrialId(u32)
}
number_id! {
    /// A try at running a trial: 0, 1, 2... within the trial.
    AttemptId(u32)
}
number_id! {
    /// Number of a group's membership; grows by one at every change. Unique within a job.
    Generation(u64)
}
number_id! {
    /// Number of a coordinator's leadership; grows with each.
    Term(u64)
}
