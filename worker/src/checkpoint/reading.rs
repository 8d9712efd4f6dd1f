//! Reads checkpoints: every part's length and digest are checked.

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::TrialId;

use super::codec::{self, DecodeError};
use super::manifest::{self, Manifest, PartEntry};
use super::part::digest_of;
use super::store::{CheckpointStore, PARTS_IN_FLIGHT};
use super::{CheckpointError, Snapshot};

/// What a search for a whole checkpoint found.
#[derive(Debug, Clone, PartialEq)]
pub struct NewestWhole<T> {
    pub found: Option<(CheckpointRef, T)>,
    /// Manifests of newer ones that are missing, cut short or changed.
    pub broken: Vec<String>,
}

/// What a checkpoint that was read whole holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Tensors(usize),
    /// Files, links and empty folders.
    Files(usize),
}

impl CheckpointStore {
    /// Reads the manifest alone.
    pub async fn manifest(&self, name: &str) -> Result<Manifest, CheckpointError> {
        let text = self.objects.manifest(name).await?;
        Manifest::parse(self.url(), name, &text)
    }

    /// Every part's length and digest are checked.
    pub async fn load(&self, manifest: &str) -> Result<Snapshot, CheckpointError> {
        let content = self.manifest(manifest).await?;
        self.load_parts(manifest, content).await
    }

    /// As [`Self::load`], and the manifest must be the one that was saved.
    pub async fn load_ref(&self, reference: &CheckpointRef) -> Result<Snapshot, CheckpointError> {
        let content = self.manifest_of(reference).await?;
        self.load_parts(&reference.manifest, content).await
    }

    /// The manifest that was saved, and no other.
    pub(super) async fn manifest_of(
        &self,
        reference: &CheckpointRef,
    ) -> Result<Manifest, CheckpointError> {
        let name = &reference.manifest;
        let text = self.objects.manifest(name).await?;
        let found = digest_of(&text);
        if !reference.digest.is_empty() && found != reference.digest {
            return Err(self.objects.corrupt(
                name,
                format!("its digest is {found}, expected {}", reference.digest),
            ));
        }
        Manifest::parse(self.url(), name, &text)
    }

    async fn load_parts(&self, name: &str, content: Manifest) -> Result<Snapshot, CheckpointError> {
        if content.files.is_some() {
            return Err(CheckpointError::OtherKind {
                manifest: name.to_owned(),
                found: "a program's files",
                expected: "tensors of the built-in trainer",
            });
        }
        let mut file = Vec::new();
        let bytes = content.file_bytes();
        let room = usize::try_from(bytes).ok();
        let memory = || CheckpointError::Memory {
            manifest: name.to_owned(),
            bytes,
        };
        if room.is_none_or(|room| file.try_reserve_exact(room).is_err()) {
            return Err(memory());
        }
        let mut parts = std::pin::pin!(self.read_parts(&content.parts));
        while let Some(part) = parts.try_next().await? {
            file.extend_from_slice(&part);
        }
        let decoding = tokio::task::spawn_blocking(move || codec::decode(&file));
        let tensors = match decoding.await {
            Ok(Ok(tensors)) => tensors,
            Ok(Err(DecodeError::Content(reason))) => {
                return Err(self.objects.corrupt(name, reason));
            }
            Ok(Err(DecodeError::Memory(..))) => return Err(memory()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        Ok(Snapshot {
            tensors,
            epoch: content.epoch,
            step: content.step,
            state: content.state,
            metrics: content.metrics,
        })
    }

    /// Checked parts, in order.
    pub(super) fn read_parts<'a>(
        &'a self,
        parts: &'a [PartEntry],
    ) -> impl Stream<Item = Result<Bytes, CheckpointError>> + 'a {
        stream::iter(parts)
            .map(|part| self.read_part(part))
            .buffered(PARTS_IN_FLIGHT)
    }

    async fn read_part(&self, part: &PartEntry) -> Result<Bytes, CheckpointError> {
        let bytes = self.objects.exactly(&part.path, part.bytes).await?;
        let found = digest_of(&bytes);
        if found != part.blake3 {
            return Err(self.objects.corrupt(
                &part.path,
                format!("its digest is {found}, the manifest says {}", part.blake3),
            ));
        }
        Ok(bytes)
    }

    /// The newest of these checkpoints that is whole. Others are skipped with a warning.
    ///
    /// None is whole: training starts from the beginning. A store that is away is an error, not a reason
    /// to fall back.
    pub async fn load_newest_whole(
        &self,
        references: &[CheckpointRef],
    ) -> Result<NewestWhole<Snapshot>, CheckpointError> {
        self.newest_whole(references, async |reference| self.load_ref(reference).await)
            .await
    }

    /// As [`Self::load_newest_whole`], whatever loading is.
    pub async fn newest_whole<T>(
        &self,
        references: &[CheckpointRef],
        load: impl AsyncFn(&CheckpointRef) -> Result<T, CheckpointError>,
    ) -> Result<NewestWhole<T>, CheckpointError> {
        let mut newest_first: Vec<_> = references.iter().collect();
        newest_first.sort_by_key(|reference| {
            let generation = manifest::parse_name(&reference.manifest).map(|name| name.2);
            std::cmp::Reverse((reference.step, generation))
        });
        let mut newest = NewestWhole {
            found: None,
            broken: Vec::new(),
        };
        for reference in newest_first {
            match load(reference).await {
                Ok(loaded) => {
                    newest.found = Some((reference.clone(), loaded));
                    break;
                }
                Err(error) if error.is_corrupt() => {
                    tracing::warn!(%error, step = reference.step, "checkpoint skipped, trying the previous one");
                    newest.broken.push(reference.manifest.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }

    /// Reads the checkpoint whole, as whoever goes on from it does; a program's files a few parts at a time.
    pub async fn verify_ref(&self, reference: &CheckpointRef) -> Result<Held, CheckpointError> {
        let content = self.manifest_of(reference).await?;
        if let Some(files) = &content.files {
            self.verify_parts(&content).await?;
            return Ok(Held::Files(files.len()));
        }
        let snapshot = self.load_parts(&reference.manifest, content).await?;
        Ok(Held::Tensors(snapshot.tensors.len()))
    }

    /// Reads every part and checks it; returns the bytes read.
    pub async fn verify(&self, manifest: &str) -> Result<u64, CheckpointError> {
        let content = self.manifest(manifest).await?;
        self.verify_parts(&content).await
    }

    async fn verify_parts(&self, content: &Manifest) -> Result<u64, CheckpointError> {
        let mut parts = std::pin::pin!(self.read_parts(&content.parts));
        let mut bytes = 0;
        while let Some(part) = parts.try_next().await? {
            bytes += part.len() as u64;
        }
        Ok(bytes)
    }

    /// Manifests of a trial, oldest step first.
    pub async fn manifests(&self, trial: TrialId) -> Result<Vec<String>, CheckpointError> {
        let names = self.objects.names(&manifest::folder(trial)).await?;
        let mut known: Vec<_> = names
            .into_iter()
            .filter_map(|name| Some((manifest::parse_name(&name)?, name)))
            .collect();
        known.sort_by_key(|((_, step, generation), _)| (*step, *generation));
        Ok(known.into_iter().map(|(_, name)| name).collect())
    }
}
