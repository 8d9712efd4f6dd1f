//! Why training could not begin or go on.

use crate::collective::CollectiveError;
use trainyard_network::ModelError;

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
    #[error(
        "the checkpoint was made with other data: the samples, targets and split of {data} had digest \
         {saved} then, and have {found} on this worker; put that data back, or submit the job anew"
    )]
    OtherData {
        data: String,
        saved: String,
        found: String,
    },
    #[error(
        "rank {rank} trains on other data than rank 0: the samples, targets and split of {data} have \
         digest {theirs} there, and {zeros} on rank 0; every worker must find the same data"
    )]
    MixedData {
        rank: usize,
        data: String,
        theirs: String,
        zeros: String,
    },
    /// Ranks that must be equal are not.
    #[error(
        "at step {step} {finding}; all ranks were equal at step {agreed}. A machine there stores or \
         computes wrongly: another attempt goes on from the last checkpoint, which all had agreed on"
    )]
    RanksDiffer {
        step: u64,
        agreed: u64,
        finding: String,
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
    /// the spec and the data, so that only what came from outside can; of data, another worker may
    /// have another copy.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Collective(error) => error.can_retry(),
            Self::OtherData { .. } | Self::MixedData { .. } | Self::RanksDiffer { .. } => true,
            Self::Spec { .. }
            | Self::NotANumber { .. }
            | Self::Snapshot { .. }
            | Self::Model(_)
            | Self::EmptyPart { .. } => false,
        }
    }
}
