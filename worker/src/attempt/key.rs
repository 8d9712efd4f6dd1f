//! Which attempt is meant, and how it is named on the wire.

use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};
use trainyard_proto::v1::{Assignment, LogLine, Report, RunningAttempt, StopAttempt, report::Body};

/// Which attempt, in which membership, and which rank of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptKey {
    pub(crate) job: JobId,
    pub(crate) trial: TrialId,
    pub(crate) attempt: AttemptId,
    pub(crate) generation: Generation,
    pub(crate) rank: u32,
}

impl AttemptKey {
    pub(crate) fn new(job: &str, trial: u32, attempt: u32, generation: u64, rank: u32) -> Self {
        Self {
            job: JobId::from(job),
            trial: TrialId(trial),
            attempt: AttemptId(attempt),
            generation: Generation(generation),
            rank,
        }
    }

    pub(crate) fn of_assignment(a: &Assignment) -> Self {
        Self::new(&a.job_id, a.trial_id, a.attempt, a.generation, a.rank)
    }

    pub(crate) fn of_report(r: &Report) -> Self {
        Self::new(&r.job_id, r.trial_id, r.attempt, r.generation, r.rank)
    }

    pub(crate) fn of_running(r: &RunningAttempt) -> Self {
        Self::new(&r.job_id, r.trial_id, r.attempt, r.generation, r.rank)
    }

    pub(crate) fn running(&self) -> RunningAttempt {
        RunningAttempt {
            job_id: self.job.to_string(),
            trial_id: self.trial.0,
            attempt: self.attempt.0,
            generation: self.generation.0,
            rank: self.rank,
        }
    }

    pub(crate) fn report(&self, time_ms: u64, body: Body) -> Report {
        Report {
            sequence: 0,
            job_id: self.job.to_string(),
            trial_id: self.trial.0,
            attempt: self.attempt.0,
            generation: self.generation.0,
            rank: self.rank,
            time_ms,
            body: Some(body),
        }
    }

    pub(crate) fn log_line(&self, time_ms: u64, level: &str, text: String) -> LogLine {
        LogLine {
            sequence: 0,
            trial_id: self.trial.0,
            attempt: self.attempt.0,
            rank: self.rank,
            time_ms,
            level: level.to_owned(),
            text,
        }
    }

    pub(crate) fn same_trial(&self, other: &Self) -> bool {
        self.job == other.job && self.trial == other.trial
    }

    /// Whether a stop, which names no rank, means this one.
    pub(crate) fn is_meant_by(&self, stop: &StopAttempt) -> bool {
        *self
            == Self::new(
                &stop.job_id,
                stop.trial_id,
                stop.attempt,
                stop.generation,
                self.rank,
            )
    }
}
