//! Attempts: what runs on a slot, how it is told to stop, and how its end is known.
//!
//! An attempt runs the built-in trainer (`native`) or a program (`exec`). Whatever it does - an
//! error, a panic, a crash - ends the attempt, never the worker.

mod absence;
mod exec;
mod gather;
mod native;
mod observer;
mod out_of_memory;
mod resume;
mod retention;
mod scratch;
#[cfg(test)]
mod testing;
mod thread;
mod user;

use std::sync::Arc;

use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::Assignment;

use crate::attempt::{End, Stop};
use crate::bundle::Cache;
use crate::collective::Rendezvous;
use crate::data::Limits;
use crate::devices::Devices;
use crate::outbox::Reporter;

pub(crate) use absence::Absence;
pub(crate) use exec::Rules;
use exec::{Launched, Watchdog};
pub(crate) use scratch::Scratch;

/// What the worker lends to its attempts.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) worker_id: String,
    pub(crate) threads_per_slot: usize,
    pub(crate) devices: Devices,
    /// How much the data of one attempt may take.
    pub(crate) data_limits: Limits,
    /// `memory://` stores of this process are the coordinator's too.
    pub(crate) single_process: bool,
    /// Whether the coordinator is there.
    pub(crate) absence: Absence,
    /// Where peers of this worker's attempts come in.
    pub(crate) rendezvous: Rendezvous,
    /// Of one pipe of a program that are passed on.
    pub(crate) log_lines_per_second: u32,
    /// Of the programs that run here.
    pub(crate) watchdog: Arc<Watchdog>,
    /// Those whose slots several ranks hold.
    pub(crate) launched: Launched,
    /// Where their files are, or why there is no such place.
    pub(crate) scratch: Result<Scratch, String>,
    /// What programs may do here.
    pub(crate) rules: Rules,
    /// Their code, where it came with the job.
    pub(crate) bundles: Cache,
}

#[cfg(test)]
impl Host {
    pub(crate) fn for_test() -> Self {
        Self {
            worker_id: "worker-1".to_owned(),
            threads_per_slot: 1,
            devices: Devices::for_test(1, 2),
            data_limits: Limits::of_memory(1 << 30),
            single_process: true,
            absence: Absence::default(),
            rendezvous: Rendezvous::start(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
                .unwrap(),
            log_lines_per_second: 500,
            watchdog: Arc::default(),
            launched: Launched::default(),
            scratch: Scratch::open(None, None),
            rules: Rules::for_test(),
            bundles: Cache::default(),
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
