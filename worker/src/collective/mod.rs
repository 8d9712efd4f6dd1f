//! Sums and exchanges between the ranks of one attempt, with results that do not depend on how many
//! ranks there are.
//!
//! `partition` and `tree` decide who sends what and in which order it is added; they own no socket.
//! `rendezvous` brings the ranks together, `tcp` carries the bytes. Nothing here knows of training,
//! models or the coordinator.

mod cpu;
#[cfg(test)]
pub(crate) mod damage;
#[cfg(test)]
mod fuzz;
mod local;
pub mod partition;
mod peer;
mod rendezvous;
mod tcp;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use cpu::cpu_kind;
pub use local::LocalGroup;
pub use rendezvous::{Membership, Rendezvous};
pub use tcp::TcpGroup;
pub use tree::TreeSum;

/// The ranks of one attempt, seen from one of them.
///
/// Every rank calls the same operations in the same order. After an error the group is of no more
/// use: drop it, and the other ranks see this one as lost.
pub trait Group: Send {
    /// This rank's number, in 0 to `world_size() - 1`.
    fn rank(&self) -> usize;

    fn world_size(&self) -> usize;

    /// Where a rank is, `host:port`, for messages.
    fn address(&self, _rank: usize) -> Option<&str> {
        None
    }

    /// Completes a sum over virtual shards. Before: `sums` holds the subtree partials of the shards
    /// that this rank owns ([`partition::owned_leaves`]). After: it holds the root, the same bits on every
    /// rank and for every world size.
    fn tree_sum(&mut self, sums: &mut TreeSum) -> Result<(), CollectiveError>;

    /// What every rank contributed, in the order of ranks. Contributions may differ in length.
    fn all_gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// Replaces `bytes` on every rank by those of `root`.
    fn broadcast(&mut self, root: usize, bytes: &mut Vec<u8>) -> Result<(), CollectiveError> {
        let own: &[u8] = if self.rank() == root { bytes } else { &[] };
        let mut gathered = self.all_gather(own)?;
        if root >= gathered.len() {
            return Err(CollectiveError::Membership {
                reason: format!("broadcast from rank {root} of {}", gathered.len()),
            });
        }
        *bytes = gathered.swap_remove(root);
        Ok(())
    }

    /// Returns once every rank has come here.
    fn barrier(&mut self) -> Result<(), CollectiveError> {
        self.all_gather(&[]).map(drop)
    }
}

/// A switch that makes every wait of a rendezvous and its group end with
/// [`CollectiveError::Cancelled`]. Clones share the switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long a rank waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For all ranks to come together.
    pub handshake: Duration,
    /// For the next byte from a rank that an operation waits for. A rank that is only busy keeps
    /// sending signs of life, so that this finds machines and networks that are gone.
    pub no_progress: Duration,
    /// For an operation's next message, however alive the others are.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(30),
            no_progress: Duration::from_secs(60),
            stall: Duration::from_secs(30 * 60),
        }
    }
}

/// Why ranks could not come together or an operation could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    #[error("rank {rank} was lost: {reason}")]
    PeerLost { rank: usize, reason: String },
    #[error("nothing came from rank {rank} for {seconds} s during {operation}")]
    NoProgress {
        operation: &'static str,
        rank: usize,
        seconds: u64,
    },
    #[error("ranks {waiting:?} are alive, but did not come to {operation} for {seconds} s")]
    Stalled {
        operation: &'static str,
        waiting: Vec<usize>,
        seconds: u64,
    },
    #[error("cancelled while waiting for other ranks")]
    Cancelled,
    #[error("rank {rank} is out of step: it sent {given}, expected {expected}")]
    OutOfStep {
        rank: usize,
        given: String,
        expected: String,
    },
    #[error("rank {rank} sent {given} bytes in {operation}, expected {expected}")]
    WrongLength {
        rank: usize,
        operation: &'static str,
        given: usize,
        expected: usize,
    },
    /// Bytes changed between two ranks. The step is done again by the next attempt, as if the way to that
    /// rank had been lost.
    #[error("what rank {rank} sent was damaged on its way: {reason}")]
    Damaged { rank: usize, reason: String },
    #[error(
        "rank {rank} runs on a cpu of kind `{theirs}`, this rank on `{ours}`: \
         results are only the same on one kind, so one trial's ranks must not be mixed"
    )]
    MixedCpu {
        rank: usize,
        theirs: String,
        ours: String,
    },
    #[error("rank {rank} refused this rank: {reason}")]
    Refused { rank: usize, reason: String },
    #[error("ranks {missing:?} did not come together within {seconds} s; last: {last}")]
    Rendezvous {
        missing: Vec<usize>,
        seconds: u64,
        last: String,
    },
    #[error("the group's membership is wrong: {reason}")]
    Membership { reason: String },
    #[error("cannot {action}: {source}")]
    Io {
        action: &'static str,
        source: std::io::Error,
    },
}

impl CollectiveError {
    /// Whether another rank (its worker, or the way to it) is gone, or not to be relied on, rather than
    /// wrong.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::PeerLost { .. }
                | Self::NoProgress { .. }
                | Self::Stalled { .. }
                | Self::Damaged { .. }
                | Self::Rendezvous { .. }
        )
    }

    /// Whether the same attempt, made again with its ranks on other machines or later, can work. What
    /// ranks say to each other depends on no configuration: a rank that is out of step, or sends another
    /// length, is another program or a faulty machine.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::PeerLost { .. }
            | Self::NoProgress { .. }
            | Self::Stalled { .. }
            | Self::Rendezvous { .. }
            | Self::MixedCpu { .. }
            | Self::Refused { .. }
            | Self::Damaged { .. }
            | Self::OutOfStep { .. }
            | Self::WrongLength { .. }
            | Self::Io { .. } => true,
            Self::Cancelled | Self::Membership { .. } => false,
        }
    }
}
