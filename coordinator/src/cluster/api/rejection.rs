//! Why an event was refused.

use trainyard_common::ids::{JobId, RequestId, Term, TrialId, WorkerId};

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
    #[error("{job} cannot be changed: {why}")]
    SetAside { job: JobId, why: String },
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
    #[error("trials of {job} cannot be tried again: {message}")]
    Retry { job: JobId, message: String },
    #[error("the search of {0} rests: it is to be woken before it can go on")]
    Asleep(JobId),
    #[error(
        "the search of {0} is still being read from its log: it cannot go on before that is done"
    )]
    Loading(JobId),
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
    #[error(
        "spec: {given} bytes given, and the specs of {whose} hold {held} already; accepted: at most {most} in all; {hint}"
    )]
    Specs {
        given: usize,
        whose: &'static str,
        held: usize,
        most: usize,
        hint: &'static str,
    },
    #[error("{path}: {message}")]
    Spec { path: String, message: String },
    #[error(
        "worker_id: {worker} is the id of another process ({why}); it is free once that one has left or its lease \
         has run out, or with `coordinatorctl worker forget {worker}`"
    )]
    Impostor { worker: WorkerId, why: &'static str },
    #[error("worker {worker} is connected: a process that runs cannot be forgotten; stop it first")]
    Connected { worker: WorkerId },
    #[error("worker {worker}: {message}")]
    Worker { worker: WorkerId, message: String },
    #[error(
        "worker has obeyed term {theirs}, newer than this coordinator's {ours}: it no longer leads"
    )]
    Deposed { theirs: Term, ours: Term },
}
