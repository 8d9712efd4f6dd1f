//! Checkpoints in an object store: parts first, manifest last, every digest checked on read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{Generation, TrialId};
use trainyard_common::store_url;

use super::manifest::{self, Manifest, PartEntry};
use super::objects::{Created, Objects};
use super::{CheckpointError, Owner, Snapshot, codec, staged};

/// Large enough that requests do not dominate, small enough that a few in memory do not matter.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at once, up or down: with [`PART_BYTES`], 32 MiB.
const PARTS_IN_FLIGHT: usize = 4;

/// The checkpoints of one job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    objects: Objects,
    part_bytes: usize,
}

/// Files that a download wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    pub tensors: PathBuf,
    pub manifest: PathBuf,
    pub bytes: u64,
}

/// What a search for a whole checkpoint found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewestWhole {
    pub found: Option<(CheckpointRef, Snapshot)>,
    /// Manifests of newer ones that are missing, cut short or changed.
    pub broken: Vec<String>,
}

/// Held by a save or a delete in a trial's folder.
type TrialLock = Arc<tokio::sync::Mutex<()>>;

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
        }
    }

    #[cfg(test)]
    pub(super) fn with_part_bytes(mut self, part_bytes: usize) -> Self {
        self.part_bytes = part_bytes;
        self
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
        if store_url::is_http(self.url()) {
            return Err(CheckpointError::NoConditionalCreate {
                url: self.url().to_owned(),
                reason: "plain HTTP has no such request".to_owned(),
            });
        }
        let header = codec::header(&snapshot.tensors).map_err(CheckpointError::Snapshot)?;
        let lock = self.lock(owner.trial);
        let _guard = lock.lock().await;
        let parts = self.upload_parts(owner, &snapshot, header).await?;
        self.create_manifest(owner, &snapshot, parts).await
    }

    async fn upload_parts(
        &self,
        owner: &Owner,
        snapshot: &Arc<Snapshot>,
        header: Vec<u8>,
    ) -> Result<Vec<PartEntry>, CheckpointError> {
        let expected = codec::file_bytes(&header, &snapshot.tensors);
        let parts: Vec<PartEntry> = self
            .cut(Arc::clone(snapshot), header)
            .map(|part| self.upload_part(owner, part))
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

    /// A part that an earlier checkpoint (or try) of this generation wrote is not written again.
    async fn upload_part(
        &self,
        owner: &Owner,
        (part, blake3): (Bytes, String),
    ) -> Result<PartEntry, CheckpointError> {
        let bytes = part.len() as u64;
        let path = manifest::part(owner, &blake3);
        if self.objects.size(&path).await? != Some(bytes) {
            self.objects.put(&path, part).await?;
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
        snapshot: &Snapshot,
        parts: Vec<PartEntry>,
    ) -> Result<CheckpointRef, CheckpointError> {
        let content = Manifest::new(owner, snapshot, parts);
        let text = serde_json::to_vec_pretty(&content)
            .map_err(|error| CheckpointError::Snapshot(format!("its state: {error}")))?;
        let text = Bytes::from(text);
        let name = manifest::name(owner, snapshot.step);
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
            step: snapshot.step,
            epoch: snapshot.epoch,
            bytes: content.tensor_bytes,
            digest: digest_of(&text),
            metrics: content.metrics,
        })
    }

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
        let name = &reference.manifest;
        let text = self.objects.manifest(name).await?;
        let found = digest_of(&text);
        if !reference.digest.is_empty() && found != reference.digest {
            return Err(self.objects.corrupt(
                name,
                format!("its digest is {found}, expected {}", reference.digest),
            ));
        }
        let content = Manifest::parse(self.url(), name, &text)?;
        self.load_parts(name, content).await
    }

    async fn load_parts(&self, name: &str, content: Manifest) -> Result<Snapshot, CheckpointError> {
        let mut file = Vec::new();
        let mut parts = std::pin::pin!(self.read_parts(&content.parts));
        while let Some(part) = parts.try_next().await? {
            file.extend_from_slice(&part);
        }
        let decoding = tokio::task::spawn_blocking(move || codec::decode(&file));
        let tensors = match decoding.await {
            Ok(decoded) => decoded.map_err(|reason| self.objects.corrupt(name, reason))?,
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
    fn read_parts<'a>(
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
    ) -> Result<NewestWhole, CheckpointError> {
        let mut newest_first: Vec<_> = references.iter().collect();
        newest_first.sort_by_key(|reference| {
            let generation = manifest::parse_name(&reference.manifest).map(|name| name.2);
            std::cmp::Reverse((reference.step, generation))
        });
        let mut newest = NewestWhole::default();
        for reference in newest_first {
            match self.load_ref(reference).await {
                Ok(snapshot) => {
                    newest.found = Some((reference.clone(), snapshot));
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

    /// Reads every part and checks it; returns the bytes read.
    pub async fn verify(&self, manifest: &str) -> Result<u64, CheckpointError> {
        let content = self.manifest(manifest).await?;
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

    /// Deletes checkpoints: manifests first, then the parts that none of their trial's remaining
    /// manifests names, and what older generations left behind. Those that are gone already are fine.
    ///
    /// To be called by the process that runs the trial's newest attempt (its saves and deletes take
    /// turns), or by any once the trial has ended. See `manifest` for why an old attempt that still runs
    /// somewhere does no harm.
    pub async fn delete(&self, manifests: &[String]) -> Result<(), CheckpointError> {
        let mut by_trial: BTreeMap<TrialId, Vec<String>> = BTreeMap::new();
        for name in manifests {
            let Some((trial, ..)) = manifest::parse_name(name) else {
                return Err(self.objects.corrupt(name, "this is no manifest's name"));
            };
            by_trial.entry(trial).or_default().push(name.clone());
        }
        for (trial, names) in by_trial {
            let lock = self.lock(trial);
            let _guard = lock.lock().await;
            self.delete_in(trial, &names).await?;
        }
        Ok(())
    }

    async fn delete_in(&self, trial: TrialId, names: &[String]) -> Result<(), CheckpointError> {
        let mut candidates = BTreeSet::new();
        let mut newest = None;
        for name in names {
            newest = newest.max(manifest::parse_name(name).map(|parsed| parsed.2));
            candidates.extend(self.parts_of(name).await?.unwrap_or_default());
        }
        self.objects.delete(names).await?;

        let mut named = BTreeSet::new();
        for name in self.manifests(trial).await? {
            newest = newest.max(manifest::parse_name(&name).map(|parsed| parsed.2));
            match self.parts_of(&name).await {
                Ok(parts) => named.extend(parts.unwrap_or_default()),
                // A checkpoint that this program cannot read is not this program's to break.
                Err(error @ CheckpointError::NewerFormat { .. }) => {
                    tracing::warn!(%error, "no parts are deleted beside a newer checkpoint");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(newest) = newest {
            self.sweep_staged(trial, newest).await;
        }
        let folder = manifest::parts_folder(trial);
        let below = self.objects.names_below(&folder).await?;
        let abandoned = below.into_iter().filter(|path| {
            // Only generations that a later one has fenced off: nobody who counts writes there.
            manifest::part_generation(trial, path).is_some_and(|at| Some(at) < newest)
        });
        candidates.extend(abandoned);
        let unnamed: Vec<String> = candidates.difference(&named).cloned().collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        self.objects.delete(&unnamed).await
    }

    /// Of stores that are folders. What cannot be removed is only room lost.
    async fn sweep_staged(&self, trial: TrialId, newest: Generation) {
        let Some(root) = store_url::local_path(self.url()) else {
            return;
        };
        let sweeping = tokio::task::spawn_blocking(move || staged::sweep(&root, trial, newest));
        match sweeping.await {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => tracing::info!(files, "removed what killed uploads had left"),
            Ok(Err(error)) => tracing::warn!(%error, "what killed uploads left stays"),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Paths of a manifest's parts; `None` if it is missing or torn, and so names none.
    async fn parts_of(&self, name: &str) -> Result<Option<Vec<String>>, CheckpointError> {
        match self.manifest(name).await {
            Ok(manifest) => Ok(Some(
                manifest.parts.into_iter().map(|part| part.path).collect(),
            )),
            Err(error) if error.is_corrupt() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes `model.safetensors` and `manifest.json` into the folder `to`, which is made if need be.
    /// Each appears under its name only once it is whole.
    pub async fn download(
        &self,
        manifest: &str,
        to: &FilePath,
    ) -> Result<Downloaded, CheckpointError> {
        let text = self.objects.manifest(manifest).await?;
        let content = Manifest::parse(self.url(), manifest, &text)?;
        tokio::fs::create_dir_all(to)
            .await
            .map_err(|error| local(to, &error))?;
        let tensors = to.join("model.safetensors");
        let bytes = write_whole(&tensors, self.read_parts(&content.parts)).await?;
        let path = to.join("manifest.json");
        write_whole(&path, stream::iter([Ok(text)])).await?;
        Ok(Downloaded {
            tensors,
            manifest: path,
            bytes,
        })
    }

    /// One lock for each trial of each store of this process, whatever handle is used.
    fn lock(&self, trial: TrialId) -> TrialLock {
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

fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn local(path: &FilePath, error: &std::io::Error) -> CheckpointError {
    CheckpointError::Local {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Writes a file beside its name, syncs it and renames it; returns its length.
async fn write_whole(
    path: &FilePath,
    content: impl Stream<Item = Result<Bytes, CheckpointError>>,
) -> Result<u64, CheckpointError> {
    let partial = path.with_extension("partial");
    let written = write_partial(&partial, content).await;
    let result = match written {
        Ok(bytes) => tokio::fs::rename(&partial, path)
            .await
            .map(|()| bytes)
            .map_err(|error| local(path, &error)),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // What is left behind is not taken for whole: it has another name.
        let _ = tokio::fs::remove_file(&partial).await;
    }
    result
}

async fn write_partial(
    path: &FilePath,
    content: impl Stream<Item = Result<Bytes, CheckpointError>>,
) -> Result<u64, CheckpointError> {
    let failed = |error: std::io::Error| local(path, &error);
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    let mut content = std::pin::pin!(content);
    let mut bytes = 0;
    while let Some(chunk) = content.try_next().await? {
        file.write_all(&chunk).await.map_err(failed)?;
        bytes += chunk.len() as u64;
    }
    file.sync_all().await.map_err(failed)?;
    Ok(bytes)
}
