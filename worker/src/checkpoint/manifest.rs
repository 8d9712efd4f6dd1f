//! The small object that makes a checkpoint exist, and the names of objects. No I/O.
//!
//! Below the job's URL:
//! - `trials/<trial>/<step, 12 digits>-<generation>.json`: manifests;
//! - `trials/<trial>/parts/<generation>/<BLAKE3>`: parts.
//!
//! Format 1 is of tensors: its parts are a safetensors file. Format 2 is of a program's folder: its parts
//! are the contents of the files that it lists, in that order. A program that knows format 1 alone refuses
//! the second, and deletes no parts beside one.
//!
//! Parts are shared between the checkpoints of one generation of a trial only. A generation has one
//! writer, the process of its rank 0, so whether a part may go is decided under a lock within that
//! process; a worker that was cut off and still writes for an old generation shares no object with
//! the new one, and neither can take the other's parts away.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainyard_common::checkpoint::metric_values;
use trainyard_common::ids::{Generation, TrialId};

use super::folder::FolderSnapshot;
use super::listing::{self, Entry};
use super::part::MAX_PART_BYTES;
use super::{CheckpointError, Owner, Snapshot};

/// Of tensors.
const TENSORS: u64 = 1;
/// Of files.
const FILES: u64 = 2;
/// The newest format that this program knows.
pub(super) const FORMAT: u64 = FILES;

/// BLAKE3 as the name of a part.
const DIGEST_DIGITS: usize = 64;
/// Of a name or digest from a manifest that is told of in a message.
const SHOWN: usize = 100;

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
    /// Of all tensors, in bytes; 0 in format 2.
    pub tensor_bytes: u64,
    /// One after the other, they are a safetensors file, or the contents of the files.
    pub parts: Vec<PartEntry>,
    /// Of format 2, and of it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<Entry>>,
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

impl PartEntry {
    /// `folder`: the only one where it may lie.
    pub(super) fn check(&self, folder: &str) -> Result<(), String> {
        if !digest_digits(&self.blake3) {
            let given = shown(&self.blake3);
            return Err(format!(
                "it names a part of digest {given:?}, expected {DIGEST_DIGITS} hexadecimal digits"
            ));
        }
        let expected = format!("{folder}/{}", self.blake3);
        if self.path != expected {
            let given = shown(&self.path);
            return Err(format!(
                "it names the part {given:?}, expected {expected}: a manifest has parts of its own attempt only"
            ));
        }
        if self.bytes == 0 || self.bytes > MAX_PART_BYTES {
            let bytes = self.bytes;
            return Err(format!(
                "it names a part of {bytes} bytes, accepted are 1 to {MAX_PART_BYTES}"
            ));
        }
        Ok(())
    }
}

/// Whether a text is a digest as the name of a part.
pub(super) fn digest_digits(text: &str) -> bool {
    let is_digit = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    text.len() == DIGEST_DIGITS && text.bytes().all(is_digit)
}

/// The beginning of what a manifest says.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl Manifest {
    pub(super) fn new(owner: &Owner, snapshot: &Snapshot, parts: Vec<PartEntry>) -> Self {
        Self {
            format: TENSORS,
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
            files: None,
        }
    }

    pub(super) fn of_folder(owner: &Owner, folder: &FolderSnapshot, parts: Vec<PartEntry>) -> Self {
        Self {
            format: FILES,
            job: owner.job.to_string(),
            trial: owner.trial.0,
            attempt: owner.attempt.0,
            generation: owner.generation.0,
            step: folder.step,
            epoch: folder.epoch,
            metrics: folder.metrics.clone(),
            state: Value::Null,
            tensor_bytes: 0,
            parts,
            files: Some(folder.entries.clone()),
        }
    }

    /// Of what is in it, in bytes.
    pub(super) fn content_bytes(&self) -> u64 {
        match &self.files {
            Some(files) => listing::bytes(files),
            None => self.tensor_bytes,
        }
    }

    /// Of all parts, in bytes.
    pub fn file_bytes(&self) -> u64 {
        // Both factors were checked: of 16 MiB of manifest there are fewer than 2^20 parts.
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// What is wrong with a manifest of this name, if anything is. It may name nothing but parts of its
    /// own trial and generation: whoever can write one manifest can then neither have another job's
    /// objects read nor other objects deleted.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let own = path(TrialId(self.trial), self.step, Generation(self.generation));
        if name != own {
            return Err(format!("it says of itself that it is {own}"));
        }
        let folder = format!("{}/{}", parts_folder(TrialId(self.trial)), self.generation);
        self.parts.iter().try_for_each(|part| part.check(&folder))?;
        let parts = self.file_bytes();
        match (self.format, &self.files) {
            (TENSORS, None) => {
                let tensors = self.tensor_bytes;
                if tensors > parts {
                    return Err(format!(
                        "its tensors have {tensors} bytes, its parts {parts}"
                    ));
                }
            }
            (FILES, Some(files)) => {
                listing::check(files)?;
                let bytes = listing::bytes(files);
                if bytes != parts || self.tensor_bytes != 0 {
                    return Err(format!(
                        "its files have {bytes} bytes, its parts {parts}, its tensors {}",
                        self.tensor_bytes
                    ));
                }
            }
            (format, files) => {
                let has = if files.is_some() { "has" } else { "has no" };
                return Err(format!(
                    "its format is {format} and it {has} `files`, which format {FILES} has and no other"
                ));
            }
        }
        Ok(())
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
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| torn(format!("it is no manifest ({error})")))?;
        manifest.check(name).map_err(torn)?;
        Ok(manifest)
    }
}

/// The folder of a trial's manifests.
pub(super) fn folder(trial: TrialId) -> String {
    format!("trials/{trial}")
}

/// Sorted by name, the manifests of a trial are sorted by step.
pub(super) fn name(owner: &Owner, step: u64) -> String {
    path(owner.trial, step, owner.generation)
}

fn path(trial: TrialId, step: u64, generation: Generation) -> String {
    format!("{}/{step:012}-{generation}.json", folder(trial))
}

pub(super) fn parts_folder(trial: TrialId) -> String {
    format!("{}/parts", folder(trial))
}

/// Where the parts of a generation lie.
pub(super) fn own_parts(owner: &Owner) -> String {
    format!("{}/{}", parts_folder(owner.trial), owner.generation)
}

/// Trial, step and generation that a manifest's name tells.
pub(super) fn parse_name(name: &str) -> Option<(TrialId, u64, Generation)> {
    let (trial, file) = name.strip_prefix("trials/")?.split_once('/')?;
    let (step, generation) = file.strip_suffix(".json")?.split_once('-')?;
    let (trial, step, generation) = (
        TrialId(trial.parse().ok()?),
        step.parse().ok()?,
        Generation(generation.parse().ok()?),
    );
    // One name for one checkpoint: no signs, no other number of zeros.
    (path(trial, step, generation) == name).then_some((trial, step, generation))
}

/// The generation that a part's name tells.
pub(super) fn part_generation(trial: TrialId, path: &str) -> Option<Generation> {
    let rest = path.strip_prefix(&parts_folder(trial))?.strip_prefix('/')?;
    let (generation, _) = rest.split_once('/')?;
    generation.parse().ok().map(Generation)
}
