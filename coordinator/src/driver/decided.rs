//! What was decided since the last commit was begun: what it is to write, and what is done after it.

use tokio::sync::oneshot;
use tokio::time::Instant;
use trainyard_common::ids::{JobId, TrialId};

use super::outbox::Outbox;
use super::writes::Writes;
use super::{CallError, MAX_GATHERED, MAX_GATHERED_BYTES};
use crate::cluster::Machine;
use crate::cluster::api::{Effect, Rejection, Reply, Step};
use crate::cluster::model::SessionId;

/// A look at the machine.
pub(super) type Look = Box<dyn FnOnce(&Machine) + Send>;

/// What waits for the commit.
pub(super) enum After {
    Effects(Vec<Effect>),
    Logged(Vec<(JobId, TrialId)>),
    Answer(
        oneshot::Sender<Result<Option<Reply>, Rejection>>,
        Result<Option<Reply>, Rejection>,
    ),
    Open(SessionId, Outbox),
    Joined(
        oneshot::Sender<Result<(), Rejection>>,
        Result<(), Rejection>,
    ),
    End(SessionId, CallError),
    Forget(SessionId),
    Read(Look),
}

/// Decisions for one transaction: many, since each transaction costs a sync of the disk.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) writes: Writes,
    pub(super) after: Vec<After>,
    /// Inputs that led to it.
    pub(super) inputs: usize,
    /// What they hold, bytes.
    pub(super) bytes: usize,
    /// When it is to be committed at the latest, if it is to be.
    pub(super) until: Option<Instant>,
    /// Looks at the machine after the commit: nothing more may be decided meanwhile. They come after all
    /// else, so that who looks has been told of every change that is to be seen.
    pub(super) looks: Vec<Look>,
}

impl Decided {
    /// Counts something that may wait until then for others.
    pub(super) fn waits(&mut self, latest: Instant) {
        self.inputs += 1;
        self.until = Some(self.until.map_or(latest, |until| until.min(latest)));
    }

    pub(super) fn look(&mut self, look: Look) {
        self.looks.push(look);
    }

    /// Whether more may be added.
    pub(super) fn has_room(&self) -> bool {
        self.inputs < MAX_GATHERED && self.bytes < MAX_GATHERED_BYTES
    }

    /// Takes a step apart; hands back its reply.
    pub(super) fn take(&mut self, mut step: Step) -> Option<Reply> {
        let logged: Vec<_> = step
            .logs
            .iter()
            .map(|log| (log.job.clone(), log.trial))
            .collect();
        self.writes.take(&mut step);
        if !logged.is_empty() {
            self.after.push(After::Logged(logged));
        }
        if !step.effects.is_empty() {
            self.after.push(After::Effects(step.effects));
        }
        step.reply
    }
}
