//! Uploads snapshots in the background while training goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use trainyard_common::checkpoint::CheckpointRef;

use super::folder::FolderSnapshot;
use super::{CheckpointError, CheckpointStore, Owner, Snapshot};

/// Snapshots that wait for the one that is being uploaded. With it, two are held in memory; the
/// trainer waits with a third.
const WAITING: usize = 1;

/// How often a failing upload is tried, and how long is waited in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub first_wait: Duration,
}

impl Default for Retry {
    /// On top of the store's own retries, which cover a single request: waits of 0.5, 1 and 2 s.
    fn default() -> Self {
        Self {
            attempts: 4,
            first_wait: Duration::from_millis(500),
        }
    }
}

/// The attempts that are left.
pub(crate) struct Tries {
    retry: Retry,
    attempt: u32,
    wait: Duration,
}

impl Retry {
    pub(crate) fn tries(self) -> Tries {
        Tries {
            retry: self,
            attempt: 1,
            wait: self.first_wait,
        }
    }
}

impl Tries {
    /// Whether to try again after a failure: `tell` is told of its number, and it is waited.
    pub(crate) async fn again(&mut self, error: &CheckpointError, tell: impl FnOnce(u32)) -> bool {
        if !error.is_retryable() || self.attempt >= self.retry.attempts {
            return false;
        }
        tell(self.attempt);
        tokio::time::sleep(self.wait).await;
        self.wait *= 2;
        self.attempt += 1;
        true
    }
}

/// What is to be saved.
#[derive(Debug)]
enum Saving {
    Tensors(Arc<Snapshot>),
    /// Removed from the disk once that is over, whatever came of it.
    Folder(Arc<FolderSnapshot>),
}

/// Saves the snapshots of one attempt, one after the other. Dropped without [`Self::finish`], it gives
/// up those that are not saved yet.
#[derive(Debug)]
pub struct Uploader {
    runtime: Handle,
    queue: Option<mpsc::Sender<Saving>>,
    task: Option<JoinHandle<()>>,
}

impl Uploader {
    /// `done` is called on the runtime, once for each snapshot in the order of submission, when its
    /// manifest is durable or has failed for good. It must not block.
    pub fn start(
        runtime: &Handle,
        store: CheckpointStore,
        owner: Owner,
        done: impl FnMut(Result<CheckpointRef, CheckpointError>) + Send + 'static,
    ) -> Self {
        Self::start_with(runtime, store, owner, Retry::default(), done)
    }

    /// As [`Self::start`], with another rule for failures.
    pub fn start_with(
        runtime: &Handle,
        store: CheckpointStore,
        owner: Owner,
        retry: Retry,
        mut done: impl FnMut(Result<CheckpointRef, CheckpointError>) + Send + 'static,
    ) -> Self {
        let (queue, mut snapshots) = mpsc::channel(WAITING);
        let uploads = async move {
            while let Some(snapshot) = snapshots.recv().await {
                done(save(&store, &owner, &snapshot, retry).await);
                snapshot.discard().await;
            }
        };
        // What it logs is the attempt's.
        let task = runtime.spawn(uploads.in_current_span());
        Self {
            runtime: runtime.clone(),
            queue: Some(queue),
            task: Some(task),
        }
    }

    /// Hands a snapshot over; blocks while too many are in flight.
    ///
    /// # Panics
    /// If called on a thread of a runtime.
    pub fn submit(&self, snapshot: Snapshot) {
        self.submit_unless(snapshot, std::future::pending());
    }

    /// As [`Self::submit`], but does not wait on once `give_up` has resolved. False: the snapshot was
    /// given up.
    ///
    /// # Panics
    /// If called on a thread of a runtime.
    pub fn submit_unless(&self, snapshot: Snapshot, give_up: impl Future<Output = ()>) -> bool {
        let saving = Saving::Tensors(Arc::new(snapshot));
        self.runtime.block_on(self.hand_over(saving, give_up))
    }

    /// As [`Self::submit_unless`], of a program's folder and for asynchronous callers.
    pub async fn submit_folder_unless(
        &self,
        folder: FolderSnapshot,
        give_up: impl Future<Output = ()>,
    ) -> bool {
        self.hand_over(Saving::Folder(Arc::new(folder)), give_up)
            .await
    }

    async fn hand_over(&self, saving: Saving, give_up: impl Future<Output = ()>) -> bool {
        let step = saving.step();
        let handed_over = async {
            match &self.queue {
                Some(queue) => queue.send(saving).await.is_ok(),
                None => false,
            }
        };
        tokio::select! {
            biased;
            handed_over = handed_over => {
                if !handed_over {
                    // `done` panicked, which `finish` passes on, or the process is shutting down.
                    tracing::error!(step, "checkpoint not saved: the uploader has stopped");
                }
                true
            }
            () = give_up => {
                tracing::warn!(step, "checkpoint not saved: told to stop before there was room for it");
                false
            }
        }
    }

    /// Waits until every snapshot is done.
    ///
    /// # Panics
    /// If called on a thread of a runtime; with the panic of `done`, if it had one.
    pub fn finish(self) {
        let runtime = self.runtime.clone();
        runtime.block_on(self.finished());
    }

    /// As [`Self::finish`], but does not wait on once `give_up` has resolved. False: some snapshots were
    /// given up.
    ///
    /// # Panics
    /// As [`Self::finish`].
    pub fn finish_unless(self, give_up: impl Future<Output = ()>) -> bool {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.finished() => true,
                () = give_up => false,
            }
        })
    }

    /// As [`Self::finish`], for asynchronous callers.
    pub async fn finished(mut self) {
        self.queue = None;
        let Some(task) = self.task.as_mut() else {
            return;
        };
        let result = task.await;
        self.task = None;
        if let Err(error) = result
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Saving {
    fn step(&self) -> u64 {
        match self {
            Self::Tensors(snapshot) => snapshot.step,
            Self::Folder(folder) => folder.step,
        }
    }

    async fn save(
        &self,
        store: &CheckpointStore,
        owner: &Owner,
    ) -> Result<CheckpointRef, CheckpointError> {
        match self {
            Self::Tensors(snapshot) => store.save_shared(owner, Arc::clone(snapshot)).await,
            Self::Folder(folder) => store.save_folder(owner, folder).await,
        }
    }

    async fn discard(self) {
        if let Self::Folder(folder) = self
            && let Err(error) = tokio::fs::remove_dir_all(&folder.root).await
        {
            // It goes with the attempt's own folder.
            tracing::debug!(%error, "a saved checkpoint stays on the disk for now");
        }
    }
}

/// Tries again while that can help, but not for ever.
async fn save(
    store: &CheckpointStore,
    owner: &Owner,
    saving: &Saving,
    retry: Retry,
) -> Result<CheckpointRef, CheckpointError> {
    let mut tries = retry.tries();
    loop {
        let result = saving.save(store, owner).await;
        let Err(error) = &result else { return result };
        let tell = |attempt| {
            tracing::warn!(%error, step = saving.step(), attempt, "checkpoint not saved, trying again");
        };
        if !tries.again(error, tell).await {
            return result;
        }
    }
}
