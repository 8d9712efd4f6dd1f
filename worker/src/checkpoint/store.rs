//! Saves checkpoints into an object store: parts first, manifest last.
//!
//! `reading`, `deletion`, `download` and `restore` are what else is done with them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use object_store::path::Path;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::TrialId;
use trainyard_common::store_url;

use super::folder::{Cutter, FolderSnapshot};
use super::manifest::{self, Manifest, PartEntry};
use super::objects::{Created, MAX_MANIFEST_BYTES, Objects, Stored};
use super::part::{PART_BYTES, digest_of};
use super::{CheckpointError, Owner, Snapshot, codec};

/// Parts that are on their way at once, up or down: with [`PART_BYTES`], 32 MiB.
pub(super) const PARTS_IN_FLIGHT: usize = 4;

/// Damaged parts of which is told; a disk that rots as a whole would fill the log.
const MENDED_TOLD: usize = 16;

/// The checkpoints of one job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    pub(super) objects: Objects,
    part_bytes: usize,
    /// Damaged parts that saves replaced and that nobody has asked for yet.
    mended: Arc<Mutex<Vec<String>>>,
}

/// Held by a save or a delete in a trial's folder.
pub(super) type TrialLock = Arc<tokio::sync::Mutex<()>>;

impl CheckpointStore {
    /// Nothing is read or written yet. `url`: the job's checkpoints lie below it.
    pub fn open(url: &str) -> Result<Self, CheckpointError> {
        let (store, prefix) = store_url::open(url)?;
        Ok(Self::over(store, prefix, url))
    }

    /// Over a store that is open already; `url` is what messages call it.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: Path, url: &str) -> Self {
        Self {
            objects: Objects::new(store, prefix, url),
            part_bytes: PART_BYTES,
            mended: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_part_bytes(mut self, part_bytes: usize) -> Self {
        self.part_bytes = part_bytes;
        self
    }

    /// Parts that were stored, were found damaged by a save and replaced since this was last asked, each
    /// with what was wrong with it. Other checkpoints that name them were broken until then.
    pub fn take_mended(&self) -> Vec<String> {
        std::mem::take(&mut *self.mended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn url(&self) -> &str {
        &self.objects.url
    }

    /// Durable when this returns. Saving the same again is fine and says the same; another content
    /// under the same step and generation is a [`CheckpointError::Conflict`].
    pub async fn save(
        &self,
        owner: &Owner,
        snapshot: Snapshot,
    ) -> Result<CheckpointRef, CheckpointError> {
        self.save_shared(owner, Arc::new(snapshot)).await
    }

    /// As [`Self::save`], for callers that may have to try again.
    pub async fn save_shared(
        &self,
        owner: &Owner,
        snapshot: Arc<Snapshot>,
    ) -> Result<CheckpointRef, CheckpointError> {
        self.check_url()?;
        let header = codec::header(&snapshot.tensors).map_err(CheckpointError::Snapshot)?;
        let lock = self.lock(owner.trial);
        let _guard = lock.lock().await;
        let parts = self.upload_parts(owner, &snapshot, header).await?;
        self.create_manifest(owner, Manifest::new(owner, &snapshot, parts))
            .await
    }

    /// As [`Self::save_shared`], of a program's folder: read from the disk a few parts at a time.
    pub async fn save_folder(
        &self,
        owner: &Owner,
        folder: &Arc<FolderSnapshot>,
    ) -> Result<CheckpointRef, CheckpointError> {
        let lock = self.lock(owner.trial);
        let _guard = lock.lock().await;
        let parts = self.save_parts(&manifest::own_parts(owner), folder).await?;
        self.create_manifest(owner, Manifest::of_folder(owner, folder, parts))
            .await
    }

    /// The parts of a folder, in order, uploaded a few at a time.
    pub(super) async fn save_parts(
        &self,
        parts_folder: &str,
        folder: &Arc<FolderSnapshot>,
    ) -> Result<Vec<PartEntry>, CheckpointError> {
        self.check_url()?;
        self.cut_folder(Arc::clone(folder))
            .map(|part| self.upload_counted(parts_folder, folder, part))
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn upload_counted(
        &self,
        parts_folder: &str,
        folder: &FolderSnapshot,
        part: Result<(Bytes, String), CheckpointError>,
    ) -> Result<PartEntry, CheckpointError> {
        let stored = self.upload_part(parts_folder, part?).await?;
        folder.stored.fetch_add(stored.bytes, Ordering::Relaxed);
        Ok(stored)
    }

    fn check_url(&self) -> Result<(), CheckpointError> {
        if store_url::is_http(self.url()) {
            return Err(CheckpointError::NoConditionalCreate {
                url: self.url().to_owned(),
                reason: "plain HTTP has no such request".to_owned(),
            });
        }
        Ok(())
    }

    async fn upload_parts(
        &self,
        owner: &Owner,
        snapshot: &Arc<Snapshot>,
        header: Vec<u8>,
    ) -> Result<Vec<PartEntry>, CheckpointError> {
        let expected = codec::file_bytes(&header, &snapshot.tensors);
        let parts_folder = manifest::own_parts(owner);
        let parts: Vec<PartEntry> = self
            .cut(Arc::clone(snapshot), header)
            .map(|part| self.upload_part(&parts_folder, part))
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await?;
        debug_assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), expected);
        Ok(parts)
    }

    /// Parts with their digests, made one at a time off the runtime's threads.
    fn cut(
        &self,
        snapshot: Arc<Snapshot>,
        header: Vec<u8>,
    ) -> impl Stream<Item = (Bytes, String)> + use<> {
        let part_bytes = self.part_bytes;
        let start = (codec::Cursor::default(), Arc::<[u8]>::from(header));
        stream::unfold(start, move |(mut cursor, header)| {
            let snapshot = Arc::clone(&snapshot);
            async move {
                let cutting = tokio::task::spawn_blocking(move || {
                    let part = cursor.next(&header, &snapshot.tensors, part_bytes)?;
                    let digest = digest_of(&part);
                    Some(((part, digest), (cursor, header)))
                });
                match cutting.await {
                    Ok(next) => next,
                    // The task cannot be cancelled but with its runtime, and then neither goes on.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
        })
    }

    /// As [`Self::cut`]; ends with the first error.
    fn cut_folder(
        &self,
        folder: Arc<FolderSnapshot>,
    ) -> impl Stream<Item = Result<(Bytes, String), CheckpointError>> + use<> {
        let start = Some(Cutter::new(folder, self.part_bytes));
        stream::unfold(start, move |cutter| async move {
            let mut cutter = cutter?;
            let cutting = tokio::task::spawn_blocking(move || {
                let part = match cutter.next().transpose()? {
                    Ok(part) => Bytes::from(part),
                    Err(error) => return Some((Err(error), None)),
                };
                let digest = digest_of(&part);
                Some((Ok((part, digest)), Some(cutter)))
            });
            match cutting.await {
                Ok(next) => next,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        })
    }

    /// A part that an earlier checkpoint (or try) of this generation wrote is not written again, but it is
    /// read: what has rotted meanwhile would make this checkpoint, and each later one, one that nobody
    /// can load. A part's name is its digest, so that writing it again is right whoever did it before.
    async fn upload_part(
        &self,
        parts_folder: &str,
        (part, blake3): (Bytes, String),
    ) -> Result<PartEntry, CheckpointError> {
        let bytes = part.len() as u64;
        let path = format!("{parts_folder}/{blake3}");
        match self.objects.look(&path, bytes, &blake3).await {
            Stored::Whole => {}
            Stored::Nothing => self.objects.put(&path, part).await?,
            Stored::Damaged(reason) => {
                self.objects.put(&path, part).await?;
                tracing::warn!(
                    part = path,
                    reason,
                    "a stored part was damaged and is written anew"
                );
                let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
                if mended.len() < MENDED_TOLD {
                    mended.push(format!("{path}: {reason}"));
                }
            }
        }
        Ok(PartEntry {
            path,
            bytes,
            blake3,
        })
    }

    async fn create_manifest(
        &self,
        owner: &Owner,
        content: Manifest,
    ) -> Result<CheckpointRef, CheckpointError> {
        let name = manifest::name(owner, content.step);
        content.check(&name).map_err(CheckpointError::Snapshot)?;
        let text = serde_json::to_vec_pretty(&content)
            .map_err(|error| CheckpointError::Snapshot(format!("its state: {error}")))?;
        let text = Bytes::from(text);
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            let reason = format!(
                "its manifest has {} bytes, at most {MAX_MANIFEST_BYTES} can be read back",
                text.len()
            );
            return Err(CheckpointError::Snapshot(reason));
        }
        // Also what a create finds whose first answer was lost on the way.
        if let Created::Exists = self.objects.create(&name, text.clone()).await?
            && self.objects.manifest(&name).await? != text
        {
            return Err(CheckpointError::Conflict {
                url: self.url().to_owned(),
                manifest: name,
            });
        }
        Ok(CheckpointRef {
            manifest: name,
            step: content.step,
            epoch: content.epoch,
            bytes: content.content_bytes(),
            digest: digest_of(&text),
            metrics: content.metrics,
        })
    }

    /// One lock for each trial of each store of this process, whatever handle is used.
    pub(super) fn lock(&self, trial: TrialId) -> TrialLock {
        type Locks = HashMap<(String, TrialId), Weak<tokio::sync::Mutex<()>>>;
        static LOCKS: LazyLock<Mutex<Locks>> = LazyLock::new(Mutex::default);
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let entry = locks.entry((self.objects.identity(), trial)).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let lock = TrialLock::default();
            *entry = Arc::downgrade(&lock);
            lock
        })
    }
}
