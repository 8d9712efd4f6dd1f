//! What goes into the machine and what comes out: events, steps, effects, rejections.
//!
//! Plain data without behaviour. Records (what is persisted) are in `records`, answers to queries in
//! `query`. Times are Unix milliseconds; durations are milliseconds.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{AttemptId, Generation, JobId, RequestId, Term, TrialId, WorkerId};
use trainyard_common::spec::{Document, TrialSpec};

use crate::cluster::api::WorkspaceSummary;
use crate::cluster::model::{
    ArchiveRef, AttemptKind, Decision, JobState, Key, Metrics, Outcome, RankPlace, Record,
    TrialState,
};

/// One worker's connection, numbered by the driver; never used again within a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub u64);

/// Settings that the machine decides by. All durations in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// Without a sign of life for this long a worker is lost.
    pub lease_ms: u64,
    /// Told to workers.
    pub heartbeat_ms: u64,
    /// Coordinator and workers are one process, so that `memory://` stores are shared.
    pub single_process: bool,
    /// Store of jobs that name none, such as `file:///var/lib/trainyard/checkpoints`.
    pub default_checkpoint_url: String,
    /// Random for each coordinator process; keys the ranks' rendezvous tokens.
    pub token_secret: [u8; 32],
    /// Pause before a worker is asked again to prove a store that it could not use.
    pub probe_retry_ms: u64,
    /// After a worker came back without an attempt that it should run: time for the attempt's last
    /// reports to be replayed, before the attempt counts as lost.
    pub replay_grace_ms: u64,
    /// How long a proof of a store may take from being asked, queueing included. Longer than the calls
    /// that it is made of, so that theirs is the error that is told.
    pub probe_timeout_ms: u64,
    /// Random, chosen by a coordinator's first process: keeps the checkpoints of coordinators that share
    /// a bucket apart. 0 = not named in paths.
    pub cluster: u32,
    /// How long an attempt that is asked for its slots may take to make a checkpoint.
    pub vacate_ms: u64,
    /// A job that has waited this long for a gang that fits the cluster is kept slots.
    pub gang_wait_ms: u64,
    /// Slots that have been kept for this long without coming free are asked for, of attempts of no
    /// higher priority.
    pub reserve_ms: u64,
    /// How long ended jobs stay in the records where their spec does not say (`u64::MAX` = for ever).
    pub retain_ms: u64,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            lease_ms: 60_000,
            heartbeat_ms: 2_000,
            single_process: false,
            default_checkpoint_url: "file:///var/lib/trainyard/checkpoints".to_owned(),
            token_secret: [0; 32],
            probe_retry_ms: 15_000,
            replay_grace_ms: 4_000,
            probe_timeout_ms: 150_000,
            cluster: 0,
            vacate_ms: 120_000,
            gang_wait_ms: 60_000,
            reserve_ms: 300_000,
            retain_ms: 30 * 24 * 3_600_000,
        }
    }
}

/// What a worker says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    pub worker: WorkerId,
    pub host: String,
    pub version: String,
    /// One a slot: `cpu`, `cuda:0`.
    pub devices: Vec<String>,
    pub collective_address: String,
    pub cpu_kind: String,
}

/// Names one attempt at one membership.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub generation: Generation,
}

/// One rank of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankRef {
    pub at: AttemptRef,
    pub rank: u32,
}

/// A running rank's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    pub rank: RankRef,
    /// The newest step.
    pub step: u64,
    /// Grows with every sign of progress: steps, validation batches, lines that a program prints.
    pub signs: u64,
}

/// One thing that happened to an attempt, as told by a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Grows with each report of the worker's process; gaps are legal.
    pub sequence: u64,
    pub rank: RankRef,
    /// The worker's clock, for display only.
    pub time_ms: u64,
    pub body: ReportBody,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ReportBody {
    Started {
        from_step: u64,
        steps_total: u64,
        epochs_total: u64,
        parameters: u64,
    },
    /// Rank 0 only.
    Progress(Point),
    /// Rank 0 only, once the manifest is durable.
    Checkpoint(CheckpointRef),
    /// A rank's last report. `Outcome::NodeLost` from a worker means that it lost a peer.
    Ended {
        outcome: Outcome,
        error: String,
        step: u64,
        test_metrics: Metrics,
    },
    /// Manifests that the worker has deleted by the keep rule. Believed whatever the generation:
    /// what is deleted is gone.
    Dropped { manifests: Vec<String> },
}

/// One point of a learning curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub step: u64,
    /// Complete epochs.
    pub epoch: u64,
    pub metrics: Metrics,
    /// Counts for the objective.
    pub end_of_epoch: bool,
    pub time_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogText {
    pub time_ms: u64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    pub text: String,
}

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
    /// `term`: the highest term that the worker has obeyed.
    WorkerJoined {
        info: WorkerInfo,
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

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Submitted {
        job: JobId,
        warnings: Vec<String>,
    },
    Cancelled {
        job: JobId,
        state: JobState,
    },
    /// After a pause or a resume; `trial`: the state of the one that was named.
    Held {
        job: JobId,
        state: JobState,
        trial: Option<TrialState>,
    },
    Extended {
        job: JobId,
        state: JobState,
        trials_expected: Option<u32>,
    },
    /// It is gone, or will be once nothing of it holds slots.
    Deleted {
        job: JobId,
    },
    Archiving {
        job: JobId,
        /// The archive exists.
        archived: bool,
    },
    Drained {
        worker: WorkerId,
        draining: bool,
        /// Ranks that still hold slots there.
        attempts: u32,
    },
    Workspace(WorkspaceSummary),
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
    /// Drop a job's series, its archives but `keep`, and its checkpoints where their place is given; then
    /// tell the machine `Removed`, whatever failed.
    Remove {
        job: JobId,
        keep: Option<String>,
        checkpoint_url: Option<String>,
    },
    /// For those who watch: the job's summary and these trials' have changed.
    Changed { job: JobId, trials: Vec<TrialId> },
}

#[derive(Debug, Clone)]
pub enum ToWorker {
    /// Always the first message of a session.
    Registered {
        heartbeat_ms: u64,
        lease_ms: u64,
        abandon: Vec<RankRef>,
    },
    /// Every report of this worker up to this sequence is durable, or was recognised as stale.
    Acknowledged {
        sequence: u64,
    },
    /// As `Acknowledged`, of every log line up to this number.
    LinesStored {
        through: u64,
    },
    Assign(Box<Assignment>),
    Stop {
        at: AttemptRef,
        /// Make a checkpoint first.
        checkpoint: bool,
    },
}

/// One rank's part of an attempt. A slot may still be busy with an attempt that was abandoned or
/// stopped: the worker waits for it.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub at: AttemptRef,
    pub kind: AttemptKind,
    pub rank: u32,
    pub ranks: Vec<RankPlace>,
    pub spec: std::sync::Arc<TrialSpec>,
    pub resume_from: Option<CheckpointRef>,
    pub checkpoints: Vec<CheckpointRef>,
    pub rendezvous_token: String,
    /// Complete epochs after which the attempt ends with a checkpoint.
    pub until_epoch: Option<u64>,
    /// `resume_from` is another trial's.
    pub copies: bool,
}

/// Why an event was refused; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no job {0}")]
    UnknownJob(JobId),
    #[error("job {job} has no trial {trial}")]
    UnknownTrial { job: JobId, trial: TrialId },
    #[error("{what} has ended: there is nothing to {ask}")]
    Ended { what: String, ask: &'static str },
    #[error("{job} is {state}: {hint}")]
    NotEnded {
        job: JobId,
        state: &'static str,
        hint: &'static str,
    },
    #[error("{job} is archived: {ask}")]
    Archived { job: JobId, ask: &'static str },
    #[error("{job} is being {what}: it is too late to {ask}")]
    Leaving {
        job: JobId,
        what: &'static str,
        ask: &'static str,
    },
    #[error("{job} cannot be extended: {field}: {message}")]
    Extend {
        job: JobId,
        field: &'static str,
        message: String,
    },
    #[error("workspace {workspace:?}: {field}: {message}")]
    Workspace {
        workspace: String,
        field: &'static str,
        message: String,
    },
    #[error("no worker {worker}; {known}")]
    UnknownWorker { worker: WorkerId, known: String },
    #[error("request id must have 1 to {max} characters, given {given}")]
    RequestId { given: usize, max: usize },
    #[error("request id {0:?} was already used for another request")]
    RequestReused(RequestId),
    #[error(
        "checkpoint_storage.url: {url} lives in one process's memory, and this coordinator's workers \
         are processes of their own; use file://, s3://, gs:// or az://"
    )]
    MemoryStore { url: String },
    #[error("{path}: {message}")]
    Spec { path: String, message: String },
    #[error("worker {worker}: {message}")]
    Worker { worker: WorkerId, message: String },
    #[error(
        "worker has obeyed term {theirs}, newer than this coordinator's {ours}: it no longer leads"
    )]
    Deposed { theirs: Term, ours: Term },
}
