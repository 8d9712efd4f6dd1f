//! Why training could not begin or go on.

use crate::collective::CollectiveError;
use crate::model::ModelError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{field}: {message}")]
    Spec {
        field: &'static str,
        message: String,
    },
    #[error(
        "loss or parameters are not finite at step {step}: try a lower learning rate, scaled \
         features, or another initializer"
    )]
    NotANumber { step: u64 },
    #[error("the checkpoint does not fit this trial: {what} is {given}, expected {expected}")]
    Snapshot {
        what: String,
        given: String,
        expected: String,
    },
    #[error("the {part} part of the data has no samples")]
    EmptyPart { part: &'static str },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

impl TrainError {
    /// Whether another attempt at the same trial can end differently. The computation is a function of
    /// the spec and the data, so that only what came from outside can.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Collective(error) => error.can_retry(),
            Self::Spec { .. }
            | Self::NotANumber { .. }
            | Self::Snapshot { .. }
            | Self::Model(_)
            | Self::EmptyPart { .. } => false,
        }
    }
}
