//! What is persisted, under which key, in which form.
//!
//! Each record is one JSON object with a format version, written whole whenever it changes. Nothing
//! here decides anything.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{AttemptId, Generation, JobId, RequestId, TrialId, WorkerId};
use trainyard_common::spec::{FailureKind, Params};

use crate::cluster::model::JobSummary;
use crate::schedule::logical::Stint;
use crate::search::Observation;

/// Version of the form below. Raise it when an older program would misread what is written.
pub const FORMAT_VERSION: u32 = 1;

/// Named finite values, in the reporter's order.
pub type Metrics = Vec<(String, f64)>;

/// Where a record lies in the store; keys sort by job, then number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Running,
    Evaluating,
    /// A person holds it: nothing of it is placed or suggested.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl JobState {
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    Pending,
    Running,
    /// Holds no slot and goes on from its checkpoint once it is resumed.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl TrialState {
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How an attempt, or one rank of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Error,
    Nan,
    /// The configuration cannot be: shapes that do not fit, or a program that says so.
    #[serde(alias = "invalid")]
    Infeasible,
    /// It needed more memory than there was.
    OutOfMemory,
    /// Its worker lives, but it made no progress for too long. Never told by a worker.
    Hung,
    /// The data is missing or wrong: what another trial on the same data would meet as well.
    DataInvalid,
    NodeLost,
    Preempted,
    /// It trained as far as it was told to.
    Paused,
    Cancelled,
}

impl Outcome {
    /// Whether it has done what it was to do.
    pub fn done(self) -> bool {
        matches!(self, Self::Completed | Self::Paused)
    }

    /// The kind of failure that it is, if it is one; of the data, too, which have rules of their own.
    pub fn failure(self) -> Option<FailureKind> {
        Some(match self {
            Self::Completed | Self::Paused | Self::Cancelled => return None,
            Self::Error | Self::DataInvalid => FailureKind::Error,
            Self::Nan => FailureKind::Nan,
            Self::Infeasible => FailureKind::Infeasible,
            Self::OutOfMemory => FailureKind::OutOfMemory,
            Self::Hung => FailureKind::Hung,
            Self::NodeLost => FailureKind::NodeLost,
            Self::Preempted => FailureKind::Preempted,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    Train,
    /// Judges the winner's best checkpoint on the test part.
    Evaluate,
}

/// Why an attempt is asked for its slots, and so what becomes of its trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vacate {
    /// The trial is paused until somebody resumes it.
    Pause,
    /// Something else needs the slots more: the trial waits for others.
    Preempt,
    /// The worker leaves: the trial goes on elsewhere.
    Drain,
    /// The trial has had its chance: it ends, as completed.
    Stop,
}

/// What was decided about a trial; the reason is text beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Suggested,
    Placed,
    Paused,
    Resumed,
    Promoted,
    Preempted,
    Drained,
    /// Its worker, or a rank of it, is gone.
    Lost,
    /// Its worker lives, but it made no progress.
    Hung,
    /// It failed and is tried again.
    Retried,
    Stopped,
    Completed,
    Failed,
    Cancelled,
    /// It has won and was judged on the test part, or could not be.
    Judged,
    /// It has waited for long: slots are kept for it.
    Reserved,
}

/// Where one rank runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankPlace {
    pub rank: u32,
    pub worker: WorkerId,
    pub slots: Vec<u32>,
    pub collective_address: String,
}

/// A job's state. Its document, which never changes, is a record of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub job: JobId,
    /// Order of submission over all jobs.
    pub number: u64,
    pub name: String,
    pub workspace: String,
    pub priority: i32,
    pub state: JobState,
    pub submitted_ms: u64,
    /// When its first trial was placed; 0 = not yet.
    pub started_ms: u64,
    pub ended_ms: u64,
    /// The store that workers must have proven.
    pub store_url: String,
    /// Where this job's checkpoints lie in it.
    pub checkpoint_url: String,
    /// Generation of the next attempt.
    pub next_generation: u64,
    /// Why there will be no further suggestion.
    pub search_closed: Option<String>,
    pub best: Option<Best>,
    /// Why the job failed.
    pub error: String,
    /// Why it waits, and other remarks.
    pub note: String,
    /// Which searcher `auto` has chosen, and why; empty where the spec names one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chosen: String,
    pub test_metrics: Metrics,
    pub evaluation: Option<Evaluation>,
    /// A person has paused it.
    #[serde(default)]
    pub held: bool,
    #[serde(default)]
    pub held_since_ms: u64,
    /// How long it was paused before; that does not count towards `max_time`.
    #[serde(default)]
    pub held_ms: u64,
    /// Time that was added to `max_time`.
    #[serde(default)]
    pub extended_ms: u64,
    /// Logical time of the newest result that counted.
    #[serde(default)]
    pub logical_clock: u64,
    /// Since when it has been waiting for slots that others have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since_ms: Option<u64>,
    /// It has ended and is on its way out of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
}

/// How an ended job leaves the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Into an archive object, from which questions are still answered.
    Archive,
    /// For good; its checkpoints, too, where that was asked for.
    Delete { checkpoints: bool },
}

/// Where an archive lies. It exists once a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRef {
    /// Folder below the job's archives.
    pub name: String,
    /// BLAKE3 of its index object, hexadecimal; the index has the digests of the rest.
    pub digest: String,
    /// Size of all its objects.
    pub bytes: u64,
}

/// What is kept of an archived job: what lists show, and where the rest lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedRecord {
    /// As in [`JobRecord`].
    pub number: u64,
    pub summary: JobSummary,
    pub archive: ArchiveRef,
}

/// A job that is gone, and what is still to be removed of it besides its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    pub job: JobId,
    /// Of the job's archives this one stays.
    pub keep: Option<String>,
    /// Checkpoints that go, too.
    pub checkpoint_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub trial: TrialId,
    pub value: f64,
    pub step: u64,
}

/// The judging of the winner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub trial: TrialId,
    pub checkpoint: CheckpointRef,
    /// Failed tries; beyond `max_restarts` the job fails.
    pub restarts: u32,
    pub losses: u32,
    pub retry_at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecRecord {
    pub job: JobId,
    pub document: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    pub job: JobId,
    pub trial: TrialId,
    pub state: TrialState,
    pub params: Params,
    pub epochs_total: u64,
    pub steps_total: u64,
    pub parameters: u64,
    /// Best objective value over all ends of epochs, and its step.
    pub best: Option<(f64, u64)>,
    /// Values of all objectives at the end of the newest epoch that had all, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// Newest point that was appended: step, and whether it ended an epoch.
    pub newest_point: Option<(u64, bool)>,
    /// Failures that count against `max_restarts`.
    pub restarts: u32,
    /// Failures in a row that are not counted as restarts, without a new checkpoint in between.
    pub losses: u32,
    /// Why it failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// A person has paused it.
    #[serde(default)]
    pub held: bool,
    /// It was told to end, which has counted already.
    #[serde(default)]
    pub stopped: bool,
    /// How often it left its slots to work of a higher priority.
    #[serde(default)]
    pub preempted: u32,
    /// On a logical worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stint: Option<Stint>,
    /// Not placed before; 0 = at once.
    pub retry_at_ms: u64,
    pub error: String,
    /// Why it is where it is.
    pub reason: String,
    pub created_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    /// Known checkpoints in the order in which they were made.
    pub checkpoints: Vec<CheckpointRef>,
    /// Another trial's checkpoint, from which it goes on until it has a newer one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<CheckpointRef>,
    /// Its value where it is to wait, and the epoch. It counts once the checkpoint is there that others may
    /// copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<(u64, f64)>,
    /// What the searcher proposed, where a scheduler has changed it since; and how often it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<Params>,
    #[serde(default)]
    pub changes: u32,
    pub next_attempt: u32,
}

impl TrialRecord {
    /// What the searcher proposed.
    pub fn suggested_params(&self) -> &Params {
        self.suggested.as_ref().unwrap_or(&self.params)
    }

    /// The checkpoint from which it goes on.
    pub fn goes_on_from(&self) -> Option<&CheckpointRef> {
        self.copies.as_ref().or(self.checkpoints.last())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub generation: Generation,
    pub kind: AttemptKind,
    pub ranks: Vec<RankRecord>,
    /// None = lives.
    pub outcome: Option<Outcome>,
    pub error: String,
    /// Why it was placed there, and why it ended.
    pub reason: String,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub from_step: u64,
    /// Latest progress.
    pub epoch: u64,
    pub step: u64,
    pub metrics: Metrics,
    /// Complete epochs after which it ends; `None`: at the end of training.
    #[serde(default)]
    pub until_epoch: Option<u64>,
    /// Its slots were asked back.
    #[serde(default)]
    pub vacate: Option<Vacate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankRecord {
    pub place: RankPlace,
    /// Sequence of the newest report that was counted.
    pub applied: u64,
    /// Number of the newest log line that was stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub logged: u64,
    /// What the rank itself reported; or that it was lost.
    pub ended: Option<Outcome>,
}

/// One entry of a job's ordered search log. Replaying all of them restores the searcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    pub job: JobId,
    pub index: u32,
    pub entry: SearchEntry,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchEntry {
    /// The searcher proposed this trial's parameters.
    Suggested { trial: TrialId },
    /// The searcher had nothing more to propose.
    Exhausted,
    /// The searcher was told how a trial ended.
    Observed(Observation),
    /// Trials were added to the search.
    Extended { trials: u32 },
    /// No new trial begins: what waits for more of them goes on without.
    Closed,
    /// A trial has reached a rung with this value; `None`: with none that counts.
    Rung {
        trial: TrialId,
        rung: u32,
        value: Option<f64>,
        /// Where it lies. Logs that were written before rungs lay anywhere but ahead have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<u64>,
        /// Of every objective, where there are several and all have one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<f64>,
    },
    /// The scheduler lets a trial go on from this rung to the next.
    Promoted { trial: TrialId, rung: u32 },
}

/// What a request led to, so that it acts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub request: RequestId,
    /// Order of arrival; the oldest are forgotten first.
    pub number: u64,
    /// Of what was asked (FNV-1a), so that another request under the same id is noticed.
    pub digest: u64,
    pub job: JobId,
}

/// A worker that somebody asked to drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    pub worker: WorkerId,
    /// When it was asked to.
    pub drained_ms: u64,
}

/// What was set for a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    pub workspace: String,
    /// Of its share, above 0.
    pub weight: f64,
    /// Most slots at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu_slots: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cuda_slots: Option<u32>,
}

impl WorkspaceRecord {
    /// Of one for which nothing was set.
    pub fn new(workspace: &str) -> Self {
        Self {
            workspace: workspace.to_owned(),
            weight: 1.0,
            max_cpu_slots: None,
            max_cuda_slots: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CountersRecord {
    pub next_job: u64,
    pub next_request: u64,
    /// [`crate::cluster::api::MachineConfig::cluster`] of the first process.
    #[serde(default)]
    pub cluster: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    Counters(CountersRecord),
    Request(RequestRecord),
    Job(Box<JobRecord>),
    Spec(Box<SpecRecord>),
    Search(SearchRecord),
    Trial(Box<TrialRecord>),
    Attempt(Box<AttemptRecord>),
    Worker(WorkerRecord),
    Workspace(WorkspaceRecord),
    Archived(Box<ArchivedRecord>),
    Removal(RemovalRecord),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(
        "record {key} has format version {found}, newer than {FORMAT_VERSION}, the newest that this \
         program knows; start the version that wrote it, or a newer one"
    )]
    Newer { key: String, found: u32 },
    #[error("record {key} cannot be read: {message}")]
    Corrupt { key: String, message: String },
    #[error("record {key} holds a record of key {actual}")]
    Misplaced { key: String, actual: String },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    record: &'a Record,
}

/// What tells how the rest is read.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    record: String,
}

impl Record {
    pub fn key(&self) -> Key {
        Key(match self {
            Self::Counters(_) => "counters".to_owned(),
            Self::Request(r) => return request_key(&r.request),
            Self::Worker(r) => return worker_key(&r.worker),
            Self::Workspace(r) => return workspace_key(&r.workspace),
            Self::Job(r) => return job_key(&r.job),
            Self::Spec(r) => return spec_key(&r.job),
            Self::Search(r) => return search_key(&r.job, r.index),
            Self::Trial(r) => return trial_key(&r.job, r.trial),
            Self::Attempt(r) => return attempt_key(&r.job, r.trial, r.attempt),
            Self::Archived(r) => return archived_key(&r.summary.job),
            Self::Removal(r) => return removal_key(&r.job),
        })
    }

    /// The stored form: UTF-8 JSON.
    ///
    /// # Errors
    /// `Corrupt` where a value has no JSON form, which no record of the machine has.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let written = Written {
            version: FORMAT_VERSION,
            record: self,
        };
        serde_json::to_vec(&written).map_err(|error| RecordError::Corrupt {
            key: self.key().0,
            message: error.to_string(),
        })
    }

    /// Reads a stored form. A newer version is refused before anything else is looked at.
    ///
    /// # Errors
    /// Each names the key.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        let corrupt = |error: serde_json::Error| RecordError::Corrupt {
            key: key.to_owned(),
            message: error.to_string(),
        };
        let Head { version, record } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version > FORMAT_VERSION {
            return Err(RecordError::Newer {
                key: key.to_owned(),
                found: version,
            });
        }
        let record = Self::read(&record, bytes).map_err(corrupt)?;
        let actual = record.key().0;
        if actual != key {
            return Err(RecordError::Misplaced {
                key: key.to_owned(),
                actual,
            });
        }
        Ok(record)
    }

    /// Reads a record of a kind. A tagged enum of serde's own would first take every value apart and
    /// then read it again from the parts; a take-over reads many.
    fn read(kind: &str, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "counters" => Self::Counters(serde_json::from_slice(bytes)?),
            "request" => Self::Request(serde_json::from_slice(bytes)?),
            "job" => Self::Job(serde_json::from_slice(bytes)?),
            "spec" => Self::Spec(serde_json::from_slice(bytes)?),
            "search" => Self::Search(serde_json::from_slice(bytes)?),
            "trial" => Self::Trial(serde_json::from_slice(bytes)?),
            "attempt" => Self::Attempt(serde_json::from_slice(bytes)?),
            "worker" => Self::Worker(serde_json::from_slice(bytes)?),
            // The error names the kinds that there are.
            _ => serde_json::from_slice(bytes)?,
        })
    }
}

pub(crate) fn job_key(job: &JobId) -> Key {
    Key(format!("job/{job}"))
}

pub(crate) fn spec_key(job: &JobId) -> Key {
    Key(format!("spec/{job}"))
}

pub(crate) fn search_key(job: &JobId, index: u32) -> Key {
    Key(format!("search/{job}/{index:010}"))
}

pub(crate) fn trial_key(job: &JobId, trial: TrialId) -> Key {
    Key(format!("trial/{job}/{:010}", trial.0))
}

pub(crate) fn attempt_key(job: &JobId, trial: TrialId, attempt: AttemptId) -> Key {
    Key(format!("attempt/{job}/{:010}/{:010}", trial.0, attempt.0))
}

pub(crate) fn archived_key(job: &JobId) -> Key {
    Key(format!("archived/{job}"))
}

pub(crate) fn removal_key(job: &JobId) -> Key {
    Key(format!("removal/{job}"))
}

/// What the keys of a job's search log begin with, and the last key before entry `from` of it.
pub(crate) fn search_prefix(job: &JobId, from: u32) -> (String, String) {
    let before = from.checked_sub(1);
    let before = before.map_or_else(String::new, |index| search_key(job, index).0);
    (format!("search/{job}/"), before)
}

/// Key of a worker's record.
pub(crate) fn worker_key(worker: &WorkerId) -> Key {
    Key(format!("worker/{worker}"))
}

/// Key of a workspace's record.
pub(crate) fn workspace_key(workspace: &str) -> Key {
    Key(format!("workspace/{workspace}"))
}

/// Key of a request's record.
pub(crate) fn request_key(request: &RequestId) -> Key {
    Key(format!("request/{request}"))
}
