//! What is left of jobs that are gone, and which effect is under way for those that leave.

use std::collections::BTreeMap;

use trainyard_common::ids::{AttemptId, JobId, TrialId};

use crate::cluster::api::{Effect, Step};
use crate::cluster::model::{Key, Record, RemovalRecord, attempt_key, search_key, trial_key};

/// Records that one turn removes: they fit one transaction of etcd, beside what else the turn writes.
const PIECE: usize = 100;

/// Pauses before what failed is tried again, doubled each time: stores come back within minutes.
const FIRST_PAUSE_MS: u64 = 5_000;
const LONGEST_PAUSE_MS: u64 = 600_000;

/// What is left of a job that is gone.
pub(in crate::cluster) struct Removal {
    pub(in crate::cluster) record: RemovalRecord,
    /// How many attempts each of its trials has left.
    pub(in crate::cluster) attempts: Vec<u32>,
    /// Entries of its search log.
    pub(in crate::cluster) entries: u32,
    /// Everything but records is gone.
    pub(in crate::cluster) swept: bool,
}

impl Removal {
    pub(in crate::cluster) fn new(record: RemovalRecord, attempts: Vec<u32>, entries: u32) -> Self {
        Self {
            record,
            attempts,
            entries,
            swept: false,
        }
    }

    pub(in crate::cluster) fn has_records(&self) -> bool {
        !self.attempts.is_empty() || self.entries > 0
    }

    /// The next records to remove, from the end, so that what is left has no gap.
    pub(in crate::cluster) fn piece(&mut self) -> Vec<Key> {
        let job = &self.record.job;
        let mut keys = Vec::with_capacity(PIECE);
        while keys.len() < PIECE {
            let trials = self.attempts.len();
            if let Some(left) = self.attempts.last_mut() {
                let trial = TrialId(u32::try_from(trials - 1).unwrap_or(u32::MAX));
                if *left > 0 {
                    *left -= 1;
                    keys.push(attempt_key(job, trial, AttemptId(*left)));
                } else {
                    self.attempts.pop();
                    keys.push(trial_key(job, trial));
                }
            } else if self.entries > 0 {
                self.entries -= 1;
                keys.push(search_key(job, self.entries));
            } else {
                break;
            }
        }
        keys
    }
}

/// What the driver is asked to do for jobs that leave.
#[derive(Default)]
pub(in crate::cluster) struct Keeping {
    pub(in crate::cluster) task: Option<(JobId, Task)>,
    /// From when on what failed is tried again, and how often it has failed.
    pub(in crate::cluster) retries: BTreeMap<JobId, (u64, u32)>,
}

/// One effect that is under way.
pub(in crate::cluster) enum Task {
    Archive {
        /// More was stored of the job since this was asked for: the copy may lack it.
        outdated: bool,
    },
    Remove(RemovalRecord),
}

impl Keeping {
    pub(in crate::cluster) fn works_on(&self, job: &JobId) -> bool {
        self.task.as_ref().is_some_and(|(known, _)| known == job)
    }

    pub(in crate::cluster) fn take(&mut self, job: &JobId) -> Option<Task> {
        let (_, task) = self.task.take_if(|(known, _)| known == job)?;
        Some(task)
    }

    pub(in crate::cluster) fn may_try(&self, job: &JobId, now: u64) -> bool {
        self.retries.get(job).is_none_or(|(at, _)| *at <= now)
    }

    /// Takes in what a step stores: an archive that is being written may lack it. What the step stores that
    /// asks for one is stored before the copying begins.
    pub(in crate::cluster) fn stored(&mut self, step: &Step) {
        let Some((job, Task::Archive { outdated })) = &mut self.task else {
            return;
        };
        let asks = |effect: &Effect| matches!(effect, Effect::Archive { job: of, .. } if of == job);
        if *outdated || step.effects.iter().any(asks) {
            return;
        }
        let records = step.records.iter().any(|record| is_of(record, job));
        *outdated = records
            || step.points.iter().any(|point| point.job == *job)
            || step.logs.iter().any(|log| log.job == *job)
            || step.decisions.iter().any(|decision| decision.job == *job);
    }

    /// Notes a failure; tells when to try again.
    pub(in crate::cluster) fn failed(&mut self, job: &JobId, now: u64) -> u64 {
        let (at, tries) = self.retries.entry(job.clone()).or_default();
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << (*tries).min(16));
        *at = now.saturating_add(pause.min(LONGEST_PAUSE_MS));
        *tries += 1;
        *at
    }
}

/// Whether an archive of the job holds this record.
fn is_of(record: &Record, job: &JobId) -> bool {
    match record {
        Record::Job(r) => r.job == *job,
        Record::Spec(r) => r.job == *job,
        Record::Search(r) => r.job == *job,
        Record::Trial(r) => r.job == *job,
        Record::Attempt(r) => r.job == *job,
        _ => false,
    }
}
