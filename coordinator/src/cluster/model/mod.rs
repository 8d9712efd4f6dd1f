//! What there is: jobs, trials, attempts, workers, as they are persisted and as they are held in memory.
//!
//! Knows nothing of the machine, and decides nothing.

mod archive;
mod attempt;
mod codec;
mod computation;
mod job;
mod keys;
mod mind;
mod moved;
mod progress;
mod reported;
mod request;
mod search_log;
mod summary;
mod told;
mod trial;
mod worker;
mod workspace;

pub use archive::{ArchiveRef, ArchivedRecord, RemovalRecord};
pub use attempt::{
    AttemptKind, AttemptRecord, AttemptRef, Metrics, Outcome, RankPlace, RankRecord, RankRef,
    Vacate,
};
pub use codec::{FORMAT_VERSION, Record, RecordError};
pub use computation::{Computation, Computed};
pub use job::{Alike, Best, Evaluation, Expected, JobRecord, JobState, Leaving, SpecRecord};
pub(in crate::cluster) use job::{Job, Turns};
pub use keys::Key;
pub(crate) use keys::{
    archived_key, attempt_key, identity_key, job_key, removal_key, request_key, search_key,
    search_prefix, spec_key, trial_key, trial_prefix, worker_key, workspace_key,
};
pub use mind::Ticket;
pub(in crate::cluster) use mind::{Mind, Next};
pub(in crate::cluster) use moved::Moved;
pub(in crate::cluster) use progress::Progress;
pub use progress::Pulse;
pub use reported::{Position, Repeated, Reported};
pub use request::{CountersRecord, RequestRecord};
pub use search_log::{Awake, SearchEntry, SearchRecord};
pub use summary::JobSummary;
pub(in crate::cluster) use told::{Check, Told};
pub use told::{SearchTask, Thought};
pub use trial::{Decision, TrialCounts, TrialRecord, TrialState};
pub(in crate::cluster) use trial::{Trial, TrialSlot};
pub use worker::{IdentityRecord, SecretDigest, SessionId, WorkerInfo, WorkerRecord};
pub(in crate::cluster) use worker::{Lost, Proof, Worker};
pub use workspace::WorkspaceRecord;
