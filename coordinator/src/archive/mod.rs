//! Archives of ended jobs in an object store: written part by part, read by key with every digest
//! compared.
//!
//! An archive is a folder of objects below its job's. It is written once and never changed; it exists once
//! a record names it, with the digest of its index. Knows keys and bytes; what they mean is the driver's
//! and `grpc`'s.

mod format;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use trainyard_common::ids::JobId;
use trainyard_common::store_url;

use crate::cluster::model::ArchiveRef;
use format::{Entry, Gathered, Index, Malformed, Part};

/// Parts and indices that are kept at hand: a page of trials is mostly in the part of the one before.
const CACHED: usize = 8;

/// Times that an object is tried to be written; the object store's own retries come on top.
const WRITE_ATTEMPTS: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// Objects that are deleted at one time.
const PARALLEL_DELETES: usize = 16;

/// What the index object is called.
const INDEX: &str = "index";

/// Why an archive was not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("{what}: {reason}")]
    Store { what: String, reason: String },
    #[error("archive {name} in {place} is damaged: {reason}")]
    Damaged {
        name: String,
        place: String,
        reason: String,
    },
}

/// Where archives lie.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    /// For people.
    pub(crate) shown: String,
}

/// All archives of a coordinator. Clones share what is at hand.
#[derive(Debug, Clone)]
pub(crate) struct Archives {
    place: Arc<Place>,
    cache: Arc<Mutex<VecDeque<(Path, Cached)>>>,
}

#[derive(Debug, Clone)]
enum Cached {
    Index(Arc<Index>),
    Part(Arc<Vec<Entry>>),
}

impl Archives {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place: Arc::new(place),
            cache: Arc::default(),
        }
    }

    fn folder(&self, job: &JobId) -> Path {
        self.below(&self.place.base, job.as_str())
    }

    fn below(&self, path: &Path, name: &str) -> Path {
        path.parts().chain([name.into()]).collect()
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> ArchiveError {
        ArchiveError::Store {
            what: format!("{what} in {}", self.place.shown),
            reason: store_url::describe(error),
        }
    }

    fn damaged(&self, name: &str, error: Malformed) -> ArchiveError {
        ArchiveError::Damaged {
            name: name.to_owned(),
            place: self.place.shown.clone(),
            reason: error.to_string(),
        }
    }

    /// Begins an archive of a job under a name that was never used.
    pub(crate) fn begin(&self, job: &JobId) -> Writer {
        let name = uuid::Uuid::new_v4().simple().to_string();
        Writer {
            folder: self.below(&self.folder(job), &name),
            archives: self.clone(),
            name,
            gathered: Gathered::default(),
            parts: Vec::new(),
        }
    }

    /// Deletes the job's archives but `keep`, and what broken tries at one left behind.
    pub(crate) async fn delete(&self, job: &JobId, keep: Option<&str>) -> Result<(), ArchiveError> {
        let folder = self.folder(job);
        let kept = keep.map(|name| self.below(&folder, name));
        let stays = |path: &Path| kept.as_ref().is_some_and(|kept| path.prefix_matches(kept));
        let Place { store, shown, .. } = self.place.as_ref();
        delete_below(store, &folder, stays)
            .await
            .map_err(|reason| ArchiveError::Store {
                what: format!("archives of {job} in {shown}"),
                reason,
            })
    }

    async fn create(&self, path: &Path, object: Bytes) -> Result<(), ArchiveError> {
        let mut attempt = 1;
        loop {
            let create = PutOptions::from(PutMode::Create);
            let put = self
                .place
                .store
                .put_opts(path, object.clone().into(), create);
            match put.await {
                // The name is ours alone: an earlier try has written it, and its answer was lost.
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => return Ok(()),
                Err(error) if attempt >= WRITE_ATTEMPTS => {
                    return Err(self.failed("an archive is not written", &error));
                }
                Err(error) => {
                    let error = store_url::describe(&error);
                    tracing::warn!(%path, error, "archive object not written; tried again");
                    tokio::time::sleep(WRITE_PAUSE * attempt).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn fetch(&self, path: &Path) -> Result<Bytes, ArchiveError> {
        let failed = |error: object_store::Error| self.failed("an archive is not read", &error);
        let found = self.place.store.get(path).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    fn cached(&self, path: &Path) -> Option<Cached> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(|(known, _)| known == path)?;
        let found = cache.remove(at)?;
        let cached = found.1.clone();
        cache.push_back(found);
        Some(cached)
    }

    fn remember(&self, path: Path, content: Cached) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_back((path, content));
        while cache.len() > CACHED {
            cache.pop_front();
        }
    }

    async fn index(&self, job: &JobId, at: &ArchiveRef) -> Result<Arc<Index>, ArchiveError> {
        let path = self.below(&self.below(&self.folder(job), &at.name), INDEX);
        if let Some(Cached::Index(index)) = self.cached(&path) {
            return Ok(index);
        }
        let bytes = self.fetch(&path).await?;
        let index = Index::decode(&bytes, &at.digest);
        let index = Arc::new(index.map_err(|error| self.damaged(&at.name, error))?);
        self.remember(path, Cached::Index(Arc::clone(&index)));
        Ok(index)
    }

    async fn part(
        &self,
        job: &JobId,
        at: &ArchiveRef,
        number: usize,
        part: &Part,
    ) -> Result<Arc<Vec<Entry>>, ArchiveError> {
        let path = self.below(&self.below(&self.folder(job), &at.name), &part_name(number));
        if let Some(Cached::Part(entries)) = self.cached(&path) {
            return Ok(entries);
        }
        let object = self.fetch(&path).await?;
        let part = part.clone();
        let entries = blocking(move || format::unpack(&object, &part)).await;
        let entries = Arc::new(entries.map_err(|error| self.damaged(&at.name, error))?);
        self.remember(path, Cached::Part(Arc::clone(&entries)));
        Ok(entries)
    }

    /// Entries whose keys begin with `prefix` and lie above `after`, in order, at most `limit`.
    pub(crate) async fn range(
        &self,
        job: &JobId,
        at: &ArchiveRef,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Entry>, ArchiveError> {
        let index = self.index(job, at).await?;
        let mut found = Vec::new();
        let from = after.max(prefix);
        for number in index.above(from) {
            let part = &index.parts[number];
            let beyond = !part.first.starts_with(prefix) && part.first.as_str() > prefix;
            if beyond || found.len() >= limit {
                break;
            }
            let entries = self.part(job, at, number, part).await?;
            let start = entries.partition_point(|(key, _)| key.as_str() < from);
            let of_prefix = entries[start..]
                .iter()
                .filter(|(key, _)| key.as_str() > after)
                .take_while(|(key, _)| key.starts_with(prefix));
            found.extend(of_prefix.take(limit - found.len()).cloned());
        }
        Ok(found)
    }
}

fn part_name(number: usize) -> String {
    format!("{number:08}")
}

/// Runs work for the processor off the async threads. A panic in there (never expected) is told as damage.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Malformed> + Send + 'static,
) -> Result<T, Malformed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Malformed::Part(error.to_string())))
}

/// Deletes every object below `folder` but those that stay; what is gone already is no error.
pub(crate) async fn delete_below(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    stays: impl Fn(&Path) -> bool,
) -> Result<(), String> {
    let described = |error: object_store::Error| store_url::describe(&error);
    let listed = store.list(Some(folder)).map_err(described);
    listed
        .try_filter(|object| std::future::ready(!stays(&object.location)))
        .map(|object| async {
            match store.delete(&object?.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(store_url::describe(&error)),
            }
        })
        .buffer_unordered(PARALLEL_DELETES)
        .try_collect()
        .await
}

/// An archive that is being written.
pub(crate) struct Writer {
    archives: Archives,
    name: String,
    folder: Path,
    gathered: Gathered,
    parts: Vec<Part>,
}

impl Writer {
    /// Takes in the next entry; keys come in ascending order.
    pub(crate) async fn push(&mut self, key: &str, value: &[u8]) -> Result<(), ArchiveError> {
        self.gathered.push(key, value);
        match self.gathered.is_full() {
            true => self.close_part().await,
            false => Ok(()),
        }
    }

    async fn close_part(&mut self) -> Result<(), ArchiveError> {
        let gathered = std::mem::take(&mut self.gathered);
        let packed = blocking(move || gathered.pack()).await;
        let damaged = |error| self.archives.damaged(&self.name, error);
        let (object, part) = packed.map_err(damaged)?;
        let path = self
            .archives
            .below(&self.folder, &part_name(self.parts.len()));
        self.archives.create(&path, object.into()).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Writes what is left and the index: durable when this returns.
    pub(crate) async fn finish(mut self) -> Result<ArchiveRef, ArchiveError> {
        if !self.gathered.is_empty() {
            self.close_part().await?;
        }
        let bytes: u64 = self.parts.iter().map(|part| part.bytes).sum();
        let index = Index::new(std::mem::take(&mut self.parts)).encode();
        let index = index.map_err(|error| self.archives.damaged(&self.name, error))?;
        let reference = ArchiveRef {
            digest: blake3::hash(&index).to_hex().to_string(),
            bytes: bytes + index.len() as u64,
            name: self.name,
        };
        let path = self.archives.below(&self.folder, INDEX);
        self.archives.create(&path, index.into()).await?;
        Ok(reference)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn archives() -> (Archives, Arc<InMemory>) {
        let store = Arc::new(InMemory::new());
        let place = Place {
            store: store.clone(),
            base: Path::from("a"),
            shown: "memory".to_owned(),
        };
        (Archives::new(place), store)
    }

    async fn paths(store: &InMemory) -> Vec<String> {
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        let mut paths: Vec<_> = listed.iter().map(|o| o.location.to_string()).collect();
        paths.sort();
        paths
    }

    #[tokio::test]
    async fn entries_of_several_parts_are_found_by_prefix_and_in_pages() {
        let (archives, store) = archives();
        let job = JobId::from("j-1");
        let mut writer = archives.begin(&job);
        let large = vec![7; 3 * 1024 * 1024];
        for number in 0..5 {
            let key = format!("logs/{number}");
            writer.push(&key, &large).await.unwrap();
        }
        writer.push("trial/1", b"one").await.unwrap();
        writer.push("trial/2", b"two").await.unwrap();
        let at = writer.finish().await.unwrap();
        assert_eq!(paths(&store).await.len(), 3, "two parts and an index");
        // Read by somebody who has nothing at hand.
        let archives = Archives::new(archives.place.as_ref().clone());
        let keys = async |prefix: &str, after: &str, limit| {
            let found = archives.range(&job, &at, prefix, after, limit).await;
            let keys = found.unwrap().into_iter().map(|(key, _)| key);
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys("logs/", "", 9).await.len(), 5);
        assert_eq!(keys("logs/", "logs/1", 2).await, ["logs/2", "logs/3"]);
        assert_eq!(keys("logs/", "logs/4", 2).await, [""; 0]);
        assert_eq!(keys("trial/", "", 1).await, ["trial/1"]);
        assert_eq!(keys("trial/2", "", 9).await, ["trial/2"]);
        assert_eq!(keys("m", "", 9).await, [""; 0]);
        assert_eq!(keys("zzz", "", 9).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_damaged_part_is_refused_and_only_what_is_named_stays() {
        let (archives, store) = archives();
        let (job, other) = (JobId::from("j-1"), JobId::from("j-11"));
        let write = async |job: &JobId| {
            let mut writer = archives.begin(job);
            writer.push("job", b"x").await.unwrap();
            writer.finish().await.unwrap()
        };
        let (torn, named) = (write(&job).await, write(&job).await);
        let others = write(&other).await;
        archives.delete(&job, Some(&named.name)).await.unwrap();
        let left = paths(&store).await;
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(!left.iter().any(|path| path.contains(&torn.name)));
        archives.range(&other, &others, "", "", 1).await.unwrap();

        let part = Path::from(format!("a/j-1/{}/00000000", named.name));
        store
            .put(&part, Bytes::from_static(b"rot").into())
            .await
            .unwrap();
        let error = archives.range(&job, &named, "", "", 1).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
        archives.delete(&job, None).await.unwrap();
        archives.delete(&job, None).await.unwrap();
        assert_eq!(paths(&store).await.len(), 2);
    }
}
