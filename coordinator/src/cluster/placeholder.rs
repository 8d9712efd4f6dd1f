//! Stand-ins for types of `trainyard_common` until they arrive there; re-exported by `types`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainyard_common::ids::TrialId;
use trainyard_common::spec::{JobSpec, Params, TrialSpec};

/// Where a checkpoint lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRef {
    pub manifest: String,
    pub step: u64,
    pub epoch: u64,
    pub bytes: u64,
    pub digest: String,
    pub metrics: Vec<(String, f64)>,
}

/// A parsed and checked job.
#[derive(Debug, Clone)]
pub struct Document {
    job: JobSpec,
}

impl Document {
    pub fn from_json(value: &Value) -> Result<Self, String> {
        serde_json::from_value(value.clone())
            .map(|job| Self { job })
            .map_err(|error| error.to_string())
    }

    pub fn to_json(&self) -> Value {
        serde_json::to_value(&self.job).unwrap_or_default()
    }

    pub fn job(&self) -> &JobSpec {
        &self.job
    }

    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    pub fn trial(&self, trial: TrialId, params: &Params, url: &str) -> Result<TrialSpec, String> {
        Ok(TrialSpec {
            job: self.job.clone(),
            params: params.clone(),
            trial_seed: u64::from(trial.0),
            checkpoint_url: url.to_owned(),
            virtual_shards: 1,
        })
    }
}
