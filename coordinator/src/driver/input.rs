//! What comes to the loop, and how long it may wait for others to share its commit.

use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;
use trainyard_common::ids::WorkerId;

use super::outbox::Outbox;
use crate::cluster::Machine;
use crate::cluster::api::{Event, Rejection, Reply};
use crate::cluster::model::SessionId;

/// Log lines wait so long for others to share their commit. The last ones of an attempt come right before
/// its end, for which a slot waits: a commit of their own would hold that up.
pub(super) const LINES_WAIT: Duration = Duration::from_millis(5);

/// One thing for the loop.
pub(crate) enum Input {
    /// News; of a session, or of the driver itself.
    Tell {
        session: Option<SessionId>,
        event: Event,
    },
    /// A request that is answered.
    Ask {
        event: Event,
        reply: oneshot::Sender<Result<Option<Reply>, Rejection>>,
    },
    /// A worker that registers.
    Join {
        event: Event,
        session: SessionId,
        outbox: Outbox,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// A worker's answer to a probe.
    Probed {
        worker: WorkerId,
        path: String,
        error: String,
    },
    /// A look at the machine.
    Read(Box<dyn FnOnce(&Machine) + Send>),
}

impl Input {
    pub(super) fn own(event: Event) -> Self {
        Self::Tell {
            session: None,
            event,
        }
    }

    pub(super) fn patience(&self) -> Patience {
        let Self::Tell { event, .. } = self else {
            return Patience::None;
        };
        match event {
            Event::Reports { .. } => Patience::Flush,
            Event::Logs { .. } | Event::Heartbeat { .. } => Patience::Lines,
            _ => Patience::None,
        }
    }
}

/// Whether nobody minds if an input waits for others to share its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Somebody does.
    None,
    /// Until the store is to be given series again.
    Flush,
    /// That, and at least [`LINES_WAIT`].
    Lines,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tell { .. } => "Tell",
            Self::Ask { .. } => "Ask",
            Self::Join { .. } => "Join",
            Self::Probed { .. } => "Probed",
            Self::Read(_) => "Read",
        })
    }
}
