//! The small object that makes a checkpoint exist, and the names of objects. No I/O.
//!
//! Below the job's URL:
//! - `trials/<trial>/<step, 12 digits>-<generation>.json`: manifests;
//! - `trials/<trial>/parts/<generation>/<BLAKE3>`: parts.
//!
//! Parts are shared between the checkpoints of one generation of a trial only. A generation has one
//! writer, the process of its rank 0, so whether a part may go is decided under a lock within that
//! process; a worker that was cut off and still writes for an old generation shares no object with
//! the new one, and neither can take the other's parts away.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainyard_common::checkpoint::metric_values;
use trainyard_common::ids::{Generation, TrialId};

use super::{CheckpointError, Owner, Snapshot};

/// The newest format that this program knows.
pub(super) const FORMAT: u64 = 1;

/// What a checkpoint is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u64,
    pub job: String,
    pub trial: u32,
    pub attempt: u32,
    pub generation: u64,
    /// Optimizer steps taken.
    pub step: u64,
    /// Complete epochs.
    pub epoch: u64,
    #[serde(with = "metric_values")]
    pub metrics: Vec<(String, f64)>,
    /// The trainer's, as it was given.
    pub state: Value,
    /// Of all tensors, in bytes.
    pub tensor_bytes: u64,
    /// One after the other, they are a safetensors file.
    pub parts: Vec<PartEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Relative to the job's URL.
    pub path: String,
    pub bytes: u64,
    /// BLAKE3, hexadecimal.
    pub blake3: String,
}

impl Manifest {
    pub(super) fn new(owner: &Owner, snapshot: &Snapshot, parts: Vec<PartEntry>) -> Self {
        Self {
            format: FORMAT,
            job: owner.job.to_string(),
            trial: owner.trial.0,
            attempt: owner.attempt.0,
            generation: owner.generation.0,
            step: snapshot.step,
            epoch: snapshot.epoch,
            metrics: snapshot.metrics.clone(),
            state: snapshot.state.clone(),
            tensor_bytes: snapshot.bytes(),
            parts,
        }
    }

    /// Of all parts, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// `name` and `url` are for messages.
    pub(super) fn parse(url: &str, name: &str, text: &[u8]) -> Result<Self, CheckpointError> {
        let torn = |reason: String| CheckpointError::Corrupt {
            url: url.to_owned(),
            object: name.to_owned(),
            reason,
        };
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| torn(format!("it is not JSON ({error})")))?;
        let Some(format) = value.get("format").and_then(Value::as_u64) else {
            return Err(torn("it has no `format` number".to_owned()));
        };
        if format > FORMAT {
            return Err(CheckpointError::NewerFormat {
                manifest: name.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_value(value).map_err(|error| torn(format!("it is no manifest ({error})")))
    }
}

/// The folder of a trial's manifests.
pub(super) fn folder(trial: TrialId) -> String {
    format!("trials/{trial}")
}

/// Sorted by name, the manifests of a trial are sorted by step.
pub(super) fn name(owner: &Owner, step: u64) -> String {
    format!(
        "{}/{step:012}-{}.json",
        folder(owner.trial),
        owner.generation
    )
}

pub(super) fn parts_folder(trial: TrialId) -> String {
    format!("{}/parts", folder(trial))
}

pub(super) fn part(owner: &Owner, digest: &str) -> String {
    let folder = parts_folder(owner.trial);
    format!("{folder}/{}/{digest}", owner.generation)
}

/// Trial, step and generation that a manifest's name tells.
pub(super) fn parse_name(name: &str) -> Option<(TrialId, u64, Generation)> {
    let (trial, file) = name.strip_prefix("trials/")?.split_once('/')?;
    let (step, generation) = file.strip_suffix(".json")?.split_once('-')?;
    Some((
        TrialId(trial.parse().ok()?),
        step.parse().ok()?,
        Generation(generation.parse().ok()?),
    ))
}

/// The generation that a part's name tells.
pub(super) fn part_generation(trial: TrialId, path: &str) -> Option<Generation> {
    let rest = path.strip_prefix(&parts_folder(trial))?.strip_prefix('/')?;
    let (generation, _) = rest.split_once('/')?;
    generation.parse().ok().map(Generation)
}
