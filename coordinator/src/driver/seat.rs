//! Whether this coordinator leads: the services ask here for the loop to speak to. Of several
//! coordinators one leads, and it changes while the services go on answering.

use std::time::Duration;

use tokio::sync::watch;

use super::{CallError, DriverHandle};
use crate::cluster::Machine;
use crate::cluster::api::{Event, Reply};

/// How long a call waits at a standby while nobody leads: the next leader, perhaps this one, is about to.
const LEADERLESS: Duration = Duration::from_secs(1);

/// What this coordinator is at the moment.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It leads, through this loop.
    Leads(DriverHandle),
    /// It waits to lead. The address of the one that does and its term, where known.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(dead_code, reason = "one alone always leads")
    )]
    Follows(Option<Leading>),
}

impl Standing {
    fn handle(&self) -> Result<DriverHandle, CallError> {
        match self {
            Self::Leads(handle) => Ok(handle.clone()),
            Self::Follows(leader) => Err(CallError::NotLeading {
                leader: leader.as_ref().map(|leader| leader.address.clone()),
            }),
        }
    }
}

/// Another coordinator that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leading {
    pub(crate) address: String,
    pub(crate) term: u64,
}

/// Speaks to the loop while there is one. Clones see the same changes.
#[derive(Debug, Clone)]
pub(crate) struct Seat(watch::Receiver<Standing>);

impl Seat {
    /// Of a coordinator that leads for as long as it lives.
    pub(crate) fn of(handle: DriverHandle) -> Self {
        Self(watch::channel(Standing::Leads(handle)).1)
    }

    #[cfg(feature = "etcd")]
    pub(crate) fn following(standing: &watch::Sender<Standing>) -> Self {
        Self(standing.subscribe())
    }

    /// The loop of this coordinator, if it leads. Where nobody does it is waited for a moment.
    pub(crate) async fn handle(&self) -> Result<DriverHandle, CallError> {
        let mut standing = self.0.clone();
        let known = standing.wait_for(|standing| !matches!(standing, Standing::Follows(None)));
        // Where this coordinator ends meanwhile, it is not waited for either.
        if let Ok(Ok(standing)) = tokio::time::timeout(LEADERLESS, known).await {
            return standing.handle();
        }
        self.0.borrow().handle()
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(&*self.0.borrow(), Standing::Leads(_))
    }

    /// The other coordinator that leads, where this one does not and it is known.
    pub(crate) fn leader(&self) -> Option<Leading> {
        match &*self.0.borrow() {
            Standing::Leads(_) => None,
            Standing::Follows(leader) => leader.clone(),
        }
    }

    /// Waits for a change of what this coordinator is; for ever where it cannot change.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// As [`DriverHandle::ask`], of the loop that leads now.
    pub(crate) async fn ask(&self, event: Event) -> Result<Reply, CallError> {
        self.handle().await?.ask(event).await
    }

    /// As [`DriverHandle::read`].
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        self.handle().await?.read(look).await
    }
}
