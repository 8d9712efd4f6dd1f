//! What is saved, and by whom.

use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};
use trainyard_network::NamedTensor;

/// A trainer's whole state between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Parameters, optimizer state and running statistics. Names are unique.
    pub tensors: Vec<NamedTensor>,
    /// Complete epochs.
    pub epoch: u64,
    /// Optimizer steps taken.
    pub step: u64,
    /// The trainer's cursor and whatever else is not a tensor.
    pub state: serde_json::Value,
    pub metrics: Vec<(String, f64)>,
}

impl Snapshot {
    /// Size of all tensors in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors
            .iter()
            .map(|tensor| tensor.data.len() as u64 * 4)
            .sum()
    }
}

/// The attempt that a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    /// Unique within the job; of two attempts at a trial the later has the higher one.
    pub generation: Generation,
}
