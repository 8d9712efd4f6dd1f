//! Attempts: what runs on a slot, how it is told to stop, and how its end is known.
//!
//! An attempt runs the built-in trainer (`native`) or a program (`exec`). Whatever it does - an
//! error, a panic, a crash - ends the attempt, never the worker.

mod activity;
mod exec;
mod group;
mod keeper;
mod memory;
mod native;
mod output;
mod resume;
mod stop;
mod teller;
#[cfg(test)]
pub(crate) mod testing;
mod thread;

use std::sync::Arc;

use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};
use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::{
    Assignment, AttemptOutcome, Ended, LogLine, Metric, Report, RunningAttempt, StopAttempt,
    report::Body,
};

use crate::agent::absence::Absence;
use crate::agent::outbox::Reporter;
use crate::collective::Rendezvous;
use crate::devices::Devices;

pub(crate) use activity::Activity;
pub(crate) use group::Watchdog;
pub(crate) use stop::{Stop, StopSignal};

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

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) error: String,
    pub(crate) step: u64,
    pub(crate) test_metrics: Vec<Metric>,
}

/// The longest error that is reported, in bytes.
const MAX_ERROR_BYTES: usize = 4096;

impl End {
    pub(crate) fn completed(step: u64) -> Self {
        Self::new(AttemptOutcome::Completed, String::new(), step)
    }

    /// The end at the epoch that the assignment named.
    pub(crate) fn paused(step: u64) -> Self {
        Self::new(AttemptOutcome::Paused, String::new(), step)
    }

    pub(crate) fn error(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::Error, message.to_string(), step)
    }

    /// The end by lack of memory.
    pub(crate) fn out_of_memory(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::OutOfMemory, message.to_string(), step)
    }

    /// The end by something that every other try of this configuration would meet as well.
    pub(crate) fn infeasible(message: impl std::fmt::Display, step: u64) -> Self {
        Self::new(AttemptOutcome::Infeasible, message.to_string(), step)
    }

    pub(crate) fn new(outcome: AttemptOutcome, error: String, step: u64) -> Self {
        Self {
            outcome,
            error,
            step,
            test_metrics: Vec::new(),
        }
    }

    /// The end of an attempt that left because it was told to.
    pub(crate) fn stopped(stop: Stop, step: u64) -> Self {
        let outcome = match stop {
            Stop::Checkpoint => AttemptOutcome::Preempted,
            Stop::Now | Stop::Abandoned => AttemptOutcome::Cancelled,
        };
        Self::new(outcome, String::new(), step)
    }

    pub(crate) fn into_body(self) -> Body {
        Body::Ended(Ended {
            outcome: self.outcome.into(),
            error: crate::agent::logs::cut(&self.error, MAX_ERROR_BYTES),
            step: self.step,
            test_metrics: self.test_metrics,
        })
    }
}

/// What the worker lends to its attempts.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) worker_id: String,
    pub(crate) threads_per_slot: usize,
    pub(crate) devices: Devices,
    /// `memory://` stores of this process are the coordinator's too.
    pub(crate) single_process: bool,
    /// Whether the coordinator is there.
    pub(crate) absence: Absence,
    /// Where peers of this worker's attempts come in.
    pub(crate) rendezvous: Rendezvous,
    /// Of the programs that run here.
    pub(crate) watchdog: Arc<Watchdog>,
}

#[cfg(test)]
impl Host {
    pub(crate) fn for_test() -> Self {
        Self {
            worker_id: "worker-1".to_owned(),
            threads_per_slot: 1,
            devices: Devices::for_test(1, 2),
            single_process: true,
            absence: Absence::default(),
            rendezvous: Rendezvous::start(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
                .unwrap(),
            watchdog: Arc::default(),
        }
    }
}

/// One attempt as it was assigned, read and checked.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) assignment: Assignment,
    pub(crate) spec: TrialSpec,
}

/// Why an assignment cannot be run at all.
#[derive(Debug, thiserror::Error)]
enum AssignmentError {
    #[error("the trial's spec cannot be read ({0}); are coordinator and worker of one version?")]
    Spec(#[from] serde_json::Error),
    #[error("rank {rank} is not among the {ranks} ranks of the assignment")]
    Rank { rank: u32, ranks: usize },
    #[error(
        "checkpoints would go to {0}, which only this process can read; give `checkpoint_storage.url` as file://, s3://, gs:// or az://"
    )]
    MemoryStore(String),
}

impl Task {
    fn read(assignment: Assignment, host: &Host) -> Result<Self, AssignmentError> {
        let spec: TrialSpec = serde_json::from_str(&assignment.trial_spec_json)?;
        let rank = assignment.rank;
        if assignment.ranks.get(rank as usize).map(|r| r.rank) != Some(rank) {
            let ranks = assignment.ranks.len();
            return Err(AssignmentError::Rank { rank, ranks });
        }
        if trainyard_common::store_url::is_memory(&spec.checkpoint_url) && !host.single_process {
            return Err(AssignmentError::MemoryStore(spec.checkpoint_url));
        }
        Ok(Self { assignment, spec })
    }
}

/// Runs an assignment to its end, whatever that is.
pub(crate) async fn execute(assignment: Assignment, reporter: Reporter, host: Arc<Host>) -> End {
    let task = match Task::read(assignment, &host) {
        Ok(task) => task,
        Err(error) => return End::error(error, 0),
    };
    let timeout = task.spec.job.orphan_timeout();
    let lender = host.clone();
    let speaker = reporter.clone();
    let mut running = Box::pin(async move {
        if task.spec.job.entrypoint.is_some() {
            exec::run(&task, &speaker, &host).await
        } else {
            native::run(task, &speaker, host).await
        }
    });
    tokio::select! {
        end = &mut running => return end,
        () = lender.absence.outlasts(timeout) => {}
    }
    let text = format!(
        "no coordinator for {} s and the lease has run out (orphan_timeout): stopping",
        timeout.as_secs()
    );
    tracing::warn!("{text}");
    reporter.warn(&text);
    reporter.stop.request(Stop::Checkpoint);
    running.await
}
