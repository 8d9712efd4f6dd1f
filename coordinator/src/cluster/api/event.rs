//! What the driver tells the machine.
//!
//! Plain data without behaviour. Times are Unix milliseconds; durations are milliseconds.

use core::net::IpAddr;

use trainyard_common::ids::{JobId, RequestId, Term, TrialId, WorkerId};
use trainyard_common::spec::Document;

use super::wire::{LogText, Report};
use crate::cluster::model::{
    ArchiveRef, Awake, Computed, Pulse, RankRef, SecretDigest, SessionId, Ticket, WorkerInfo,
};

/// What the driver tells the machine.
#[derive(Debug, Clone)]
pub enum Event {
    /// Answered by `Reply::Submitted`. The same request id acts once.
    Submit {
        request: RequestId,
        document: Box<Document>,
    },
    /// Answered by `Reply::Cancelled`.
    Cancel {
        request: RequestId,
        job: JobId,
    },
    /// Answered by `Reply::Held`; of one trial, or of the whole job.
    Pause {
        request: RequestId,
        job: JobId,
        trial: Option<TrialId>,
    },
    /// As `Pause`.
    Resume {
        request: RequestId,
        job: JobId,
        trial: Option<TrialId>,
    },
    /// A worker opened a session; an earlier one of the same worker is replaced.
    ///
    /// `running`: attempts that run there, and those whose last report is not acknowledged yet.
    /// `term`: the highest term that the worker has obeyed. `secret`: what it must have shown at its first join
    /// to come back; old workers have none. `peer`: the address from which it speaks, where that is known.
    WorkerJoined {
        info: WorkerInfo,
        secret: Option<SecretDigest>,
        peer: Option<IpAddr>,
        session: SessionId,
        running: Vec<RankRef>,
        term: Term,
    },
    /// The session's stream broke. The worker keeps its attempts until its lease runs out.
    WorkerLost {
        session: SessionId,
    },
    Heartbeat {
        session: SessionId,
    },
    /// Progress of the session's running ranks, told with a heartbeat.
    Pulses {
        session: SessionId,
        pulses: Vec<Pulse>,
    },
    /// More trials or more time for a search; answered by `Reply::Extended`.
    Extend {
        request: RequestId,
        job: JobId,
        trials: u32,
        seconds: f64,
    },
    /// Tries failed trials again, of a job that has failed, too; answered by `Reply::Held`.
    Retry {
        request: RequestId,
        job: JobId,
        trial: Option<TrialId>,
    },
    /// A resting search as its log tells it, so that it can be extended.
    Wake {
        job: JobId,
        search: Box<Awake>,
    },
    /// The answer to `Effect::Search`.
    Searched {
        job: JobId,
        ticket: Ticket,
        computed: Result<Computed, String>,
    },
    /// Removes an ended job for good; answered by `Reply::Deleted`.
    Delete {
        request: RequestId,
        job: JobId,
        /// Cancel it first if it has not ended.
        force: bool,
        /// Its checkpoints go, too.
        checkpoints: bool,
    },
    /// Moves an ended job into an archive; answered by `Reply::Archiving`.
    Archive {
        request: RequestId,
        job: JobId,
    },
    /// The answer to `Effect::Archive`: where it lies, or why there is none.
    Archived {
        job: JobId,
        archive: Result<ArchiveRef, String>,
    },
    /// The answer to `Effect::Remove`.
    Removed {
        job: JobId,
        error: Option<String>,
    },
    /// Answered by `Reply::Drained`. Asked twice it changes nothing.
    Drain {
        worker: WorkerId,
        /// Take an earlier one back.
        undo: bool,
    },
    /// The worker's process is gone, says an operator: answered by `Reply::Forgotten`.
    ForgetWorker {
        worker: WorkerId,
    },
    /// Answered by `Reply::Workspace`. Asked twice it changes nothing.
    SetWorkspace {
        workspace: String,
        change: WorkspaceChange,
    },
    /// As `SetWorkspace`.
    RemoveWorkspace {
        workspace: String,
    },
    /// The answer to `Effect::Knock`.
    Knocked {
        worker: WorkerId,
        session: SessionId,
        refused: bool,
    },
    /// Place nothing there any more: the process leaves, and its attempts stop by themselves.
    Leaving {
        session: SessionId,
    },
    /// In the order in which they were told. Events of a session that was replaced are ignored.
    Reports {
        session: SessionId,
        reports: Vec<Report>,
    },
    Logs {
        session: SessionId,
        rank: RankRef,
        /// Number of the first line among the worker's, the others follow; 0 = they have none.
        first: u64,
        lines: Vec<LogText>,
    },
    /// Verdict on a probe (`Effect::Probe`): from the worker's answer, from the driver's check of
    /// the reply object, or because the driver could not write the probe. `None`: proven.
    StoreProbed {
        worker: WorkerId,
        path: String,
        error: Option<String>,
    },
    /// The coordinator itself stood still for so long (a suspended machine, a slow disk): what workers
    /// sent meanwhile is still to be read, so that leases and graces are longer by it.
    Stalled {
        ms: u64,
    },
    /// `next_deadline()` has passed.
    Tick,
}

/// What is to be set of a workspace; what is not given stays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WorkspaceChange {
    pub weight: Option<f64>,
    pub max_cpu_slots: Option<u32>,
    pub max_cuda_slots: Option<u32>,
    /// Take both quotas back, before any new one is set.
    pub no_quota: bool,
}
