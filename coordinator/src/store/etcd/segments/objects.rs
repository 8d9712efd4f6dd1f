//! Segment objects in the object store: created once, read with their digest compared, cached.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use trainyard_common::store_url;

use super::super::super::{Place, StoreError};
use super::format::{Content, Meta, Packed, SegmentId};

/// Memory for objects that were read or written lately, bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Times that an object is tried to be written; the object store's own retries come on top.
const WRITE_ATTEMPTS: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// Objects that are looked at when leftovers are collected, at one time: S3 lists as many at a request.
const LISTED_AT_ONCE: usize = 1_000;

/// Why an object was not read.
#[derive(Debug)]
pub(in super::super) enum ReadError {
    /// There is none: it may have been joined with others meanwhile.
    Missing(String),
    Failed(StoreError),
}

/// The objects of one cluster.
pub(in super::super) struct Objects {
    url: String,
    store: Arc<dyn ObjectStore>,
    /// The cluster's folder, and that of its segments.
    cluster: Path,
    base: Path,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    contents: HashMap<SegmentId, Arc<Content>>,
    /// In the order in which they came.
    order: VecDeque<SegmentId>,
    weight: usize,
}

impl Cache {
    fn insert(&mut self, id: SegmentId, content: Arc<Content>) {
        self.weight += content.weight();
        if let Some(before) = self.contents.insert(id, content) {
            self.weight -= before.weight();
        } else {
            self.order.push_back(id);
        }
        while self.weight > CACHE_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(gone) = self.contents.remove(&oldest) {
                self.weight -= gone.weight();
            }
        }
    }

    fn remove(&mut self, id: SegmentId) {
        if let Some(gone) = self.contents.remove(&id) {
            self.weight -= gone.weight();
            self.order.retain(|known| *known != id);
        }
    }
}

impl Objects {
    /// The objects of the cluster called `cluster` below `url`. Nothing is read or written yet.
    pub(in super::super) fn open(url: &str, cluster: &str) -> Result<Self, StoreError> {
        let (store, base) = store_url::open(url).map_err(|error| StoreError::Settings {
            what: format!("segment store {url}"),
            reason: error.to_string(),
        })?;
        let cluster: Path = base
            .parts()
            .chain([format!("cluster-{cluster}").into()])
            .collect();
        Ok(Self {
            url: url.to_owned(),
            store,
            base: cluster.parts().chain(["segments".into()]).collect(),
            cluster,
            cache: Mutex::default(),
        })
    }

    /// Where the cluster's archives lie.
    pub(in super::super) fn archives(&self) -> Place {
        Place {
            store: Arc::clone(&self.store),
            base: self.cluster.parts().chain(["archives".into()]).collect(),
            shown: self.url.clone(),
        }
    }

    fn path(&self, id: SegmentId) -> Path {
        let name = id.to_string();
        let parts = name.split('/').map(|part| part.to_owned().into());
        self.base.parts().chain(parts).collect()
    }

    fn failed(&self, id: SegmentId, what: &str, reason: impl ToString) -> StoreError {
        StoreError::Io {
            path: format!("segment {id} in {}", self.url).into(),
            reason: format!("{what}: {}", reason.to_string()),
        }
    }

    fn damaged(&self, id: SegmentId, reason: impl ToString) -> StoreError {
        StoreError::Damaged {
            path: format!("segment {id} in {}", self.url).into(),
            reason: reason.to_string(),
        }
    }

    /// Creates an object, durable when this returns. An earlier try whose answer was lost is
    /// recognised by what it wrote.
    pub(in super::super) async fn create(
        &self,
        id: SegmentId,
        packed: &Packed,
    ) -> Result<(), StoreError> {
        let path = self.path(id);
        let mut attempt = 1;
        loop {
            let create = PutOptions::from(PutMode::Create);
            let put = self
                .store
                .put_opts(&path, packed.object.clone().into(), create);
            match put.await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::AlreadyExists { .. }) => {
                    let found = self.read(id).await?;
                    return if blake3::hash(&found).as_bytes() == &packed.meta.digest {
                        Ok(())
                    } else {
                        Err(self.damaged(id, "another object has its name"))
                    };
                }
                Err(error) if attempt >= WRITE_ATTEMPTS => {
                    return Err(self.failed(id, "not written", store_url::describe(&error)));
                }
                Err(error) => {
                    tracing::warn!(%id, error = store_url::describe(&error), "segment not written");
                    tokio::time::sleep(WRITE_PAUSE * attempt).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn read(&self, id: SegmentId) -> Result<Bytes, StoreError> {
        match self.fetch(id).await {
            Ok(bytes) => Ok(bytes),
            Err(ReadError::Missing(reason)) => Err(self.failed(id, "not read", reason)),
            Err(ReadError::Failed(error)) => Err(error),
        }
    }

    async fn fetch(&self, id: SegmentId) -> Result<Bytes, ReadError> {
        let failed = |error: object_store::Error| match &error {
            object_store::Error::NotFound { .. } => ReadError::Missing(store_url::describe(&error)),
            _ => ReadError::Failed(self.failed(id, "not read", store_url::describe(&error))),
        };
        let found = self.store.get(&self.path(id)).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    /// An object that is named, with its digest compared.
    pub(in super::super) async fn get(
        &self,
        id: SegmentId,
        meta: &Meta,
    ) -> Result<Arc<Content>, ReadError> {
        if let Some(content) = self.cache().contents.get(&id) {
            return Ok(Arc::clone(content));
        }
        let object = self.fetch(id).await?;
        if blake3::hash(&object).as_bytes() != &meta.digest {
            let reason = "its bytes are not those that were written (digest)";
            return Err(ReadError::Failed(self.damaged(id, reason)));
        }
        let content = Content::parse(object);
        let content = content.map_err(|error| ReadError::Failed(self.damaged(id, error)))?;
        let content = Arc::new(content);
        self.cache().insert(id, Arc::clone(&content));
        Ok(content)
    }

    /// Keeps what was just written at hand: it is asked for first.
    pub(in super::super) fn remember(&self, id: SegmentId, packed: &Packed) {
        if let Ok(content) = Content::parse(packed.object.clone()) {
            self.cache().insert(id, Arc::new(content));
        }
    }

    /// Deletes objects that nothing names any more; tells those that could not be.
    pub(in super::super) async fn delete(&self, ids: &[SegmentId]) -> Vec<SegmentId> {
        let mut left = Vec::new();
        for id in ids {
            self.cache().remove(*id);
            match self.store.delete(&self.path(*id)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    let error = store_url::describe(&error);
                    tracing::warn!(%id, error, "segment not deleted; it is tried again");
                    left.push(*id);
                }
            }
        }
        left
    }

    /// Every object that there is, named or not, a page at a time.
    pub(in super::super) fn pages(
        &self,
    ) -> impl Stream<Item = Result<Vec<SegmentId>, StoreError>> + Unpin + '_ {
        let failed = |error: object_store::Error| StoreError::Io {
            path: self.url.clone().into(),
            reason: format!("segments cannot be listed: {}", store_url::describe(&error)),
        };
        let listed = self.store.list(Some(&self.base));
        let ids = listed.try_filter_map(|meta| ready(Ok(self.id_of(&meta.location))));
        let pages = ids.try_chunks(LISTED_AT_ONCE);
        // What was listed before the failure is listed again.
        pages.map_err(move |error| failed(error.1))
    }

    fn id_of(&self, path: &Path) -> Option<SegmentId> {
        let parts: Vec<_> = path.prefix_match(&self.base)?.collect();
        let [term, sequence] = &parts[..] else {
            return None;
        };
        SegmentId::parse(&format!("{}/{}", term.as_ref(), sequence.as_ref()))
    }

    /// As [`Objects::pages`], all at once.
    #[cfg(test)]
    pub(in super::super) async fn list(&self) -> Result<Vec<SegmentId>, StoreError> {
        self.pages().try_concat().await
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Nothing in there can panic halfway.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
