//! Uploads snapshots in the background while training goes on.

use tokio::runtime::Handle;
use trainyard_common::checkpoint::CheckpointRef;

use super::{CheckpointError, CheckpointStore, Owner, Snapshot};

/// Saves snapshots one after the other.
#[derive(Debug)]
pub struct Uploader {}

impl Uploader {
    /// `done` is called on the runtime, in the order of submission; it must not block.
    pub fn start(
        handle: &Handle,
        store: CheckpointStore,
        owner: Owner,
        done: impl FnMut(Result<CheckpointRef, CheckpointError>) + Send + 'static,
    ) -> Self {
        let _ = (handle, store, owner, done);
        Self {}
    }

    /// Hands a snapshot over; blocks while too many are in flight. Not to be called on the runtime.
    pub fn submit(&self, snapshot: Snapshot) {
        let _ = snapshot;
    }

    /// Waits until every snapshot is done. Not to be called on the runtime.
    pub fn finish(self) {}

    /// As [`Self::finish`], for asynchronous callers.
    pub async fn finished(self) {}
}
