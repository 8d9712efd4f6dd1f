//! Datasets: read through object stores, checked in full, split, scaled, shuffled and prefetched.
//!
//! Knows nothing of the cluster, of models or of devices. Everything is a function of (spec, data).

mod error;
mod loader;
mod part;
mod permutation;
mod samples;
mod scaling;

use std::sync::Arc;

use trainyard_common::spec::JobSpec;
use trainyard_common::spec::data::Task;

pub use error::DataError;
pub use loader::Loader;
pub use part::{Batch, BatchTargets, Part};
pub use permutation::Permutation;

/// Samples of a job, checked and divided.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// `[features]` or `[channels, height, width]`.
    pub sample_shape: Vec<usize>,
    pub task: Task,
    /// Of a classification.
    pub classes: Option<usize>,
    /// Values of one target: 1 for a classification.
    pub target_width: usize,
    pub train: Part,
    pub validation: Part,
    pub test: Part,
}

/// Reads, checks and divides the data of a job.
pub async fn load(spec: &JobSpec) -> Result<Dataset, DataError> {
    let _ = spec;
    Err(DataError::NoData)
}

/// As [`load`], but what another trial of this process holds already is shared.
pub async fn load_shared(spec: &JobSpec) -> Result<Arc<Dataset>, DataError> {
    load(spec).await.map(Arc::new)
}
