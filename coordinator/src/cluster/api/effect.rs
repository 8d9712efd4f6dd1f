//! What one event led to: records to persist, and effects to carry out once they are.

use core::net::IpAddr;

use trainyard_common::ids::{AttemptId, JobId, TrialId, WorkerId};

use super::answer::Reply;
use super::wire::{LogText, Point, ToWorker};
use crate::cluster::model::{Computation, Decision, Key, Record, SessionId, Ticket};

/// What one event led to.
///
/// The driver persists `records`, `removed`, `points`, `logs` and `decisions` in one transaction, and
/// only then answers with `reply` and performs `effects`, in order.
#[derive(Debug, Default)]
pub struct Step {
    /// Upserts; at most one a key.
    pub records: Vec<Record>,
    pub removed: Vec<Key>,
    /// Appended to their trials' series.
    pub points: Vec<SeriesPoint>,
    /// Appended to their trials' logs; the store numbers the lines.
    pub logs: Vec<SeriesLog>,
    /// Appended to their trials' decisions.
    pub decisions: Vec<SeriesDecision>,
    /// For what people ask alone.
    pub reply: Option<Reply>,
    pub effects: Vec<Effect>,
}

/// A point that was never appended before: points at or before the trial's newest are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoint {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub point: Point,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesLog {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub rank: u32,
    pub lines: Vec<LogText>,
}

/// One decision about a trial and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesDecision {
    pub job: JobId,
    pub trial: TrialId,
    /// The trial's newest attempt when it was taken; `None` before the first.
    pub attempt: Option<AttemptId>,
    pub what: Decision,
    pub reason: String,
    pub time_ms: u64,
}

#[derive(Debug, Clone)]
pub enum Effect {
    /// To be sent on the session, if it still stands; with the machine's term.
    Send {
        worker: WorkerId,
        session: SessionId,
        message: ToWorker,
    },
    /// End the session's stream: it was replaced.
    Close { session: SessionId, reason: String },
    /// Write `content` at `path` in `url`; send `ProbeStore` on the session; when the worker says
    /// that it could, read `reply_path` and compare it with `content` reversed; delete both. Then
    /// tell the machine `StoreProbed`, whatever failed. The machine asks again after a lease.
    Probe {
        worker: WorkerId,
        session: SessionId,
        url: String,
        path: String,
        content: String,
        reply_path: String,
    },
    /// Try to connect to the worker's host and tell the machine `Knocked`: whether the connection was
    /// accepted or actively refused. Silence, a timeout and every other error tell nothing.
    Knock {
        worker: WorkerId,
        session: SessionId,
        /// `host:port` on which the worker accepts peers.
        address: String,
        /// The address from which it speaks: nowhere else is knocked.
        peer: IpAddr,
        /// Try again for a moment while it accepts: a process that ends closes its sockets one by one.
        until_refused: bool,
    },
    /// Write what the store holds of an ended job into an archive, and tell the machine `Archived`. The
    /// archive exists once a record names it.
    Archive {
        job: JobId,
        /// Trials `0..trials` have series.
        trials: u32,
    },
    /// Drop a job's series, its archives but `keep`, its checkpoints where their place is given, and a bundle
    /// unless a job names it by then; then tell the machine `Removed`, whatever failed.
    Remove {
        job: JobId,
        keep: Option<String>,
        checkpoint_url: Option<String>,
        bundle_url: Option<String>,
    },
    /// Run the task on a thread of its own and tell the machine `Searched`, whatever came of it: its error, or what
    /// it panicked with. Of one job one at a time; of two of its searcher, or of its scheduler, the newer. An answer that is lost is asked for again by the next leader.
    Search {
        job: JobId,
        ticket: Ticket,
        task: Computation,
    },
    /// For those who watch: the job's summary and these trials' have changed.
    Changed { job: JobId, trials: Vec<TrialId> },
}
