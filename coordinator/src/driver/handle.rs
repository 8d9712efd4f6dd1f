//! How the shells speak to the loop: questions with answers, and news without.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trainyard_common::ids::{JobId, Term, WorkerId};

use super::hub::{Hub, Watcher};
use super::input::Inputs;
use super::outbox::{OutboxReader, outbox};
use super::{CallError, Input};
use crate::archive::Archives;
use crate::bundles::Bundles;
use crate::cluster::Machine;
use crate::cluster::api::{Event, Reply};
use crate::cluster::model::{RankRef, SecretDigest, SessionId, WorkerInfo};
use crate::store::{AnyStore, Item, Series, Store};

/// Speaks to the loop. Clones speak to the same one.
#[derive(Debug, Clone)]
pub(crate) struct DriverHandle {
    pub(super) inputs: Inputs,
    pub(super) hub: Arc<Hub>,
    pub(super) store: AnyStore,
    pub(super) archives: Archives,
    pub(super) bundles: Bundles,
    pub(super) term: Term,
    pub(super) sessions: Arc<AtomicU64>,
    /// How many removals of jobs have begun.
    pub(super) removals: Arc<AtomicU64>,
    /// Cancelled when open calls must end.
    pub(super) closing: CancellationToken,
    /// Reads of series so far.
    #[cfg(test)]
    pub(crate) scans: Arc<AtomicU64>,
}

impl DriverHandle {
    /// Of code that jobs name.
    pub(crate) fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// Cancelled when the coordinator stops and open calls must end.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Applies a `Submit` or a `Cancel`. When this answers, what it led to is durable.
    pub(crate) async fn ask(&self, event: Event) -> Result<Reply, CallError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Ask { event, reply }).await?;
        answer
            .await
            .map_err(|_| CallError::Stopped)?
            .map_err(CallError::Rejected)?
            .ok_or(CallError::Stopped)
    }

    /// Opens a session for a worker that has registered.
    pub(crate) async fn join(
        &self,
        info: WorkerInfo,
        secret: Option<SecretDigest>,
        peer: Option<IpAddr>,
        running: Vec<RankRef>,
        term: Term,
    ) -> Result<(SessionId, OutboxReader), CallError> {
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let (outbox, reader) = outbox();
        let (reply, answer) = oneshot::channel();
        let event = Event::WorkerJoined {
            info,
            secret,
            peer,
            session,
            running,
            term,
        };
        self.send(Input::Join {
            event,
            session,
            outbox,
            reply,
        })
        .await?;
        answer
            .await
            .map_err(|_| CallError::Stopped)?
            .map_err(CallError::Rejected)?;
        Ok((session, reader))
    }

    /// News of a session. Waits while the loop is behind, which holds the worker back too.
    pub(crate) async fn tell(&self, session: SessionId, event: Event) -> Result<(), CallError> {
        self.send(Input::Tell {
            session: Some(session),
            event,
        })
        .await
    }

    /// News that is no session's.
    pub(crate) async fn own(&self, event: Event) -> Result<(), CallError> {
        self.send(Input::own(event)).await
    }

    /// A worker's answer to a probe of a store; `error` is empty where it could read and write.
    pub(crate) async fn probed(
        &self,
        worker: WorkerId,
        path: String,
        error: String,
    ) -> Result<(), CallError> {
        self.send(Input::Probed {
            worker,
            path,
            error,
        })
        .await
    }

    /// Looks at the machine's committed state.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |machine: &Machine| {
            // The asker may have gone away meanwhile.
            let _ = reply.send(look(machine));
        });
        self.send(Input::Read(look)).await?;
        answer.await.map_err(|_| CallError::Stopped)
    }

    /// From now on sees every change of a job. Subscribe before reading the state, so that no change
    /// falls between.
    pub(crate) fn watch(&self, job: &JobId) -> Watcher {
        self.hub.subscribe(job)
    }

    /// Number of the newest change that watchers were told. What is read after this call is at least as new.
    pub(crate) fn newest_change(&self) -> u64 {
        self.hub.newest()
    }

    pub(crate) async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, CallError> {
        #[cfg(test)]
        self.scans.fetch_add(1, Ordering::SeqCst);
        Ok(self.store.scan(series, after, limit).await?)
    }

    /// Grows whenever a job's series begin to be removed. While it does not, series are whole.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    pub(crate) fn archives(&self) -> &Archives {
        &self.archives
    }

    /// Stored records whose key begins with the first of `range` and is above the second, in order.
    pub(crate) async fn records(
        &self,
        range: (String, String),
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, CallError> {
        Ok(self.store.page(&range.0, &range.1, limit).await?)
    }

    /// Whether messages of this term may still be sent.
    pub(crate) fn holds(&self) -> bool {
        self.store.holds(self.term)
    }

    async fn send(&self, input: Input) -> Result<(), CallError> {
        self.inputs
            .send(input)
            .await
            .map_err(|_| CallError::Stopped)
    }
}
