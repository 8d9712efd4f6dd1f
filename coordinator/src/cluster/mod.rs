//! The one state machine: jobs, trials, attempts and workers.
//!
//! `apply(now, event)` decides; it owns no socket, store, clock or random source. The driver persists
//! what a step says before it performs the step's effects.

pub mod query;
pub mod records;
pub mod types;

use trainyard_common::ids::{JobId, Term, TrialId};

use query::{ClusterSummary, JobSummary, TrialSummary, WorkerSummary};
use types::{Document, Event, MachineConfig, Record, Rejection, Step};

/// Why stored records were not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Record(#[from] types::RecordError),
    #[error("record {key}: {message}")]
    Inconsistent { key: String, message: String },
}

/// All that the coordinator knows and decides by.
pub struct Machine {
    term: Term,
    config: MachineConfig,
}

impl Machine {
    /// A cluster without jobs.
    pub fn new(term: Term, config: MachineConfig) -> Self {
        Self { term, config }
    }

    /// The cluster as its records tell it. Attempts that were running wait one lease for their
    /// workers.
    ///
    /// # Errors
    /// Records that contradict each other, by key.
    pub fn restore(
        term: Term,
        config: MachineConfig,
        now_ms: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RestoreError> {
        let _ = (now_ms, records.into_iter().count());
        Ok(Self::new(term, config))
    }

    /// Takes in one event. `now_ms` is Unix time that never goes back (a steady clock, set by the
    /// wall clock when the process started).
    ///
    /// # Errors
    /// What was asked cannot be; nothing has changed.
    pub fn apply(&mut self, now_ms: u64, event: Event) -> Result<Step, Rejection> {
        let _ = (now_ms, event, &self.config);
        Ok(Step::default())
    }

    /// When the machine wants a `Tick`, if nothing happens before. May have passed already.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// All jobs in the order of submission.
    pub fn jobs(&self) -> Vec<JobSummary> {
        Vec::new()
    }

    pub fn job(&self, job: &JobId) -> Option<JobSummary> {
        let _ = job;
        None
    }

    pub fn document(&self, job: &JobId) -> Option<&Document> {
        let _ = job;
        None
    }

    /// The job's trials in order; `None` without such a job.
    pub fn trials(&self, job: &JobId) -> Option<Vec<TrialSummary>> {
        let _ = job;
        None
    }

    pub fn trial(&self, job: &JobId, trial: TrialId) -> Option<TrialSummary> {
        let _ = (job, trial);
        None
    }

    pub fn workers(&self) -> Vec<WorkerSummary> {
        Vec::new()
    }

    pub fn cluster(&self) -> ClusterSummary {
        ClusterSummary {
            term: self.term,
            slots_total: 0,
            slots_used: 0,
            jobs_active: 0,
        }
    }
}
