//! Artifacts: files and folders that a trial keeps under names of its own, beside its checkpoints.
//!
//! Below the job's URL, in folders where no checkpoint is looked for:
//! - `trials/<trial>/artifacts/<generation, 12 digits>-<number, 6 digits>-<BLAKE3>.json`: what makes an artifact
//!   exist, under its own digest;
//! - `trials/<trial>/artifacts/parts/<generation>/<BLAKE3>`: parts, as those of checkpoints.
//!
//! A name is unique in a trial: of several artifacts the one of the highest generation and number counts. So what a
//! worker that was cut off still writes never hides what came after it.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use trainyard_common::ids::{Generation, TrialId};

use super::folder::FolderSnapshot;
use super::listing::{self, Entry};
use super::manifest::{PartEntry, digest_digits, folder as trial_folder};
use super::objects::MAX_MANIFEST_BYTES;
use super::part::digest_of;
use super::store::CheckpointStore;
use super::{CheckpointError, Owner};

/// What this program writes and reads.
const FORMAT: u64 = 1;
/// The longest name of an artifact, in bytes: it becomes the name of a file.
const MAX_NAME_BYTES: usize = 255;
/// Small objects that are read at once; a trial may have a thousand.
const READS_IN_FLIGHT: usize = 16;

/// Whether an artifact is one file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    File,
    Folder,
}

/// What makes an artifact exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactManifest {
    format: u64,
    pub name: String,
    pub kind: ArtifactKind,
    pub job: String,
    pub trial: u32,
    pub attempt: u32,
    pub generation: u64,
    /// Counts the artifacts of its generation.
    pub number: u64,
    /// When it was handed over, in Unix milliseconds.
    pub made_ms: u64,
    pub files: Vec<Entry>,
    parts: Vec<PartEntry>,
}

impl ArtifactManifest {
    /// Of all files in it.
    pub fn bytes(&self) -> u64 {
        listing::bytes(&self.files)
    }

    fn check(&self, at: Place) -> Result<(), String> {
        check_name(&self.name)?;
        let own = Place {
            trial: TrialId(self.trial),
            generation: Generation(self.generation),
            number: self.number,
        };
        if own != at || self.format != FORMAT {
            return Err("it says of itself that it is another, or of another format".to_owned());
        }
        listing::check(&self.files)?;
        let folder = parts_folder(own.trial, own.generation);
        self.parts.iter().try_for_each(|part| part.check(&folder))?;
        let parts: u64 = self.parts.iter().map(|part| part.bytes).sum();
        let bytes = self.bytes();
        if bytes != parts {
            return Err(format!("its files have {bytes} bytes, its parts {parts}"));
        }
        let is_file =
            |entry: &Entry| matches!(entry, Entry::File { path, .. } if !path.contains('/'));
        if self.kind == ArtifactKind::File && !matches!(&self.files[..], [one] if is_file(one)) {
            return Err("it is to be one file, and is not".to_owned());
        }
        Ok(())
    }
}

/// What is to be saved as an artifact.
#[derive(Debug)]
pub struct ArtifactSnapshot {
    pub name: String,
    pub kind: ArtifactKind,
    pub number: u64,
    pub made_ms: u64,
    pub folder: Arc<FolderSnapshot>,
}

/// An artifact that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Path of the manifest, relative to the job's URL.
    pub path: String,
    pub manifest: ArtifactManifest,
}

/// What is wrong with a name, if anything is: it may have folders in it, and is written below a folder as it is.
///
/// # Errors
/// What was given and what is accepted.
pub fn check_name(name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(40).collect();
    let accepted = format!(
        "accepted are 1 to {MAX_NAME_BYTES} bytes without control characters, and no path that begins with / or \
         has an empty part, . or .. in it"
    );
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if name.len() > MAX_NAME_BYTES
        || name.chars().any(char::is_control)
        || name.split('/').any(bad_part)
    {
        return Err(format!("name is {shown:?}, {accepted}"));
    }
    Ok(())
}

/// Which artifact an object's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    trial: TrialId,
    generation: Generation,
    number: u64,
}

fn folder(trial: TrialId) -> String {
    format!("{}/artifacts", trial_folder(trial))
}

fn parts_folder(trial: TrialId, generation: Generation) -> String {
    format!("{}/parts/{generation}", folder(trial))
}

fn path(at: Place, digest: &str) -> String {
    let Place {
        trial,
        generation,
        number,
    } = at;
    let generation = generation.0;
    format!(
        "{}/{generation:012}-{number:06}-{digest}.json",
        folder(trial)
    )
}

/// The place and the digest that a name tells.
fn parse_path(name: &str) -> Option<(Place, &str)> {
    let (trial, file) = name.strip_prefix("trials/")?.split_once("/artifacts/")?;
    let mut words = file.strip_suffix(".json")?.splitn(3, '-');
    let (generation, number, digest) = (words.next()?, words.next()?, words.next()?);
    let at = Place {
        trial: TrialId(trial.parse().ok()?),
        generation: Generation(generation.parse().ok()?),
        number: number.parse().ok()?,
    };
    // One name for one artifact: no signs, no other number of zeros.
    (digest_digits(digest) && path(at, digest) == name).then_some((at, digest))
}

impl CheckpointStore {
    /// Durable when this returns. Saving the same again is fine and says the same.
    ///
    /// # Errors
    /// Of the store, or of the files.
    pub async fn save_artifact(
        &self,
        owner: &Owner,
        snapshot: &ArtifactSnapshot,
    ) -> Result<Artifact, CheckpointError> {
        let parts_folder = parts_folder(owner.trial, owner.generation);
        let parts = self.save_parts(&parts_folder, &snapshot.folder).await?;
        let manifest = ArtifactManifest {
            format: FORMAT,
            name: snapshot.name.clone(),
            kind: snapshot.kind,
            job: owner.job.to_string(),
            trial: owner.trial.0,
            attempt: owner.attempt.0,
            generation: owner.generation.0,
            number: snapshot.number,
            made_ms: snapshot.made_ms,
            files: snapshot.folder.entries.clone(),
            parts,
        };
        let at = Place {
            trial: owner.trial,
            generation: owner.generation,
            number: snapshot.number,
        };
        manifest.check(at).map_err(CheckpointError::Snapshot)?;
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| CheckpointError::Snapshot(format!("its list: {error}")))?;
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            let bytes = text.len();
            return Err(CheckpointError::Snapshot(format!(
                "its list of files has {bytes} bytes, at most {MAX_MANIFEST_BYTES} can be read back"
            )));
        }
        let path = path(at, &digest_of(&text));
        // Under its own digest: whoever writes it again writes the same.
        self.objects.put(&path, Bytes::from(text)).await?;
        Ok(Artifact { path, manifest })
    }

    /// Deletes an artifact, and those of its parts that none of `others`, which are all others of its generation,
    /// names.
    ///
    /// # Errors
    /// Of the store.
    pub async fn delete_artifact(
        &self,
        artifact: &Artifact,
        others: &[&Artifact],
    ) -> Result<(), CheckpointError> {
        self.objects
            .delete(std::slice::from_ref(&artifact.path))
            .await?;
        let names = |other: &&Artifact, part: &PartEntry| {
            let parts = &other.manifest.parts;
            parts.iter().any(|known| known.path == part.path)
        };
        let parts = artifact.manifest.parts.iter();
        let unnamed: Vec<String> = parts
            .filter(|part| !others.iter().any(|other| names(other, part)))
            .map(|part| part.path.clone())
            .collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        self.objects.delete(&unnamed).await
    }

    /// All that a trial has, oldest first, also those whose name another has by now. One that is not whole, or
    /// gone meanwhile, is left out and logged.
    ///
    /// # Errors
    /// Of the store.
    pub async fn all_artifacts(&self, trial: TrialId) -> Result<Vec<Artifact>, CheckpointError> {
        let names = self.objects.names(&folder(trial)).await?;
        let mut known: Vec<(Place, String)> = names
            .into_iter()
            .filter_map(|name| Some((parse_path(&name)?.0, name)))
            .collect();
        known.sort();
        let read: Vec<Option<Artifact>> = stream::iter(known)
            .map(|(_, name)| self.clone().artifact_if_whole(name))
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn artifact_if_whole(self, name: String) -> Result<Option<Artifact>, CheckpointError> {
        match self.artifact_at(&name).await {
            Ok(artifact) => Ok(Some(artifact)),
            Err(error) if error.is_corrupt() => {
                tracing::warn!(%error, "an artifact is left out");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Those that count, by name.
    ///
    /// # Errors
    /// Of the store.
    pub async fn artifacts(&self, trial: TrialId) -> Result<Vec<Artifact>, CheckpointError> {
        let all = self.all_artifacts(trial).await?.into_iter();
        // Oldest first: of one name the last stays.
        let by_name: BTreeMap<String, Artifact> = all
            .map(|artifact| (artifact.manifest.name.clone(), artifact))
            .collect();
        Ok(by_name.into_values().collect())
    }

    /// The trials below the job's URL, in order.
    ///
    /// # Errors
    /// Of the store.
    pub async fn trials(&self) -> Result<Vec<TrialId>, CheckpointError> {
        let folders = self.objects.folders("trials").await?;
        let mut trials: Vec<TrialId> = folders
            .iter()
            .filter_map(|name| name.strip_prefix("trials/")?.parse().ok().map(TrialId))
            .collect();
        trials.sort();
        Ok(trials)
    }

    async fn artifact_at(&self, name: &str) -> Result<Artifact, CheckpointError> {
        let Some((at, digest)) = parse_path(name) else {
            return Err(self.objects.corrupt(name, "this is no artifact's name"));
        };
        let text = self.objects.manifest(name).await?;
        let found = digest_of(&text);
        if found != digest {
            let reason = format!("its digest is {found}, its name says {digest}");
            return Err(self.objects.corrupt(name, reason));
        }
        let manifest: ArtifactManifest = serde_json::from_slice(&text).map_err(|error| {
            let reason = format!("it is no list of an artifact of format {FORMAT} ({error})");
            self.objects.corrupt(name, reason)
        })?;
        manifest
            .check(at)
            .map_err(|reason| self.objects.corrupt(name, reason))?;
        Ok(Artifact {
            path: name.to_owned(),
            manifest,
        })
    }

    /// Writes an artifact to `to`, which must not be there: a file or a folder, every digest checked. It appears
    /// once it is whole.
    ///
    /// # Errors
    /// Of the store, or of the disk.
    pub async fn download_artifact(
        &self,
        artifact: &Artifact,
        to: &FilePath,
    ) -> Result<(), CheckpointError> {
        let local = |reason: String| CheckpointError::Local {
            path: to.display().to_string(),
            reason,
        };
        if to.symlink_metadata().is_ok() {
            return Err(local(
                "it is there already, and is not written over".to_owned(),
            ));
        }
        let failed = |error: std::io::Error| local(error.to_string());
        if let Some(above) = to.parent() {
            tokio::fs::create_dir_all(above).await.map_err(failed)?;
        }
        let ArtifactManifest {
            kind, files, parts, ..
        } = &artifact.manifest;
        let moved = AtomicU64::new(0);
        if *kind == ArtifactKind::Folder {
            return self.unpack(parts, files, to, true, &moved).await;
        }
        let mut unpacked = to.file_name().unwrap_or_default().to_owned();
        unpacked.push(".unpacked");
        let unpacked = to.with_file_name(unpacked);
        self.unpack(parts, files, &unpacked, true, &moved).await?;
        let file = unpacked.join(files[0].path());
        let moved = tokio::fs::rename(file, to).await.map_err(failed);
        // What stays behind has another name.
        let _ = tokio::fs::remove_dir_all(&unpacked).await;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_below_a_folder() {
        for good in [
            "plot.png",
            "plots/loss 1.png",
            "a.b..c",
            "ü",
            &"n".repeat(255),
        ] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "..",
            "a\nb",
            &"n".repeat(256),
        ] {
            let told = check_name(bad).unwrap_err();
            assert!(
                told.starts_with("name is") && told.contains("accepted"),
                "{told}"
            );
        }
    }

    #[test]
    fn an_object_s_name_tells_one_artifact() {
        let digest = "a".repeat(64);
        let at = Place {
            trial: TrialId(3),
            generation: Generation(7),
            number: 12,
        };
        let name = path(at, &digest);
        assert_eq!(parse_path(&name), Some((at, digest.as_str())));
        for other in [
            name.replace("trials/3", "trials/03"),
            name.replace("000012-", "12-"),
            name.replace(&digest, "b"),
            name.replace(".json", ""),
            name.replace("artifacts", "parts"),
            format!("trials/3/artifacts/parts/7/{digest}"),
            "trials/3/000000000004-7.json".to_owned(),
        ] {
            assert_eq!(parse_path(&other), None, "{other}");
        }
        assert_eq!(super::super::manifest::parse_name(&name), None);
    }
}
