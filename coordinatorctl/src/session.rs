//! Where a verb's questions go: to a coordinator, or to the jobs that `run` left
//! in `--data-dir`.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::{Client, Endpoint};
use crate::exit::{Code, Failure, Outcome};
use crate::local::{self, Interrupt, LocalCoordinator, StartError};
use crate::print;

/// Between two looks at what is still to be archived or removed: a job of a few trials takes less.
const LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Whoever waits for longer than this is told for what.
const QUIET: Duration = Duration::from_secs(1);

/// What a verb talks to.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Set where nothing but this verb's own coordinator runs, so that no job can go on.
    pub(crate) idle: bool,
}

impl Session {
    /// Refuses to wait for a job that nobody runs.
    pub(crate) fn must_run(&self, job_id: &str, ended: bool) -> Outcome {
        if !self.idle || ended {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{job_id} is not finished and nothing runs it: `coordinatorctl run` on its spec with \
             --resume goes on"
        )))
    }

    /// Waits until nothing is being archived or removed, where that ends with this verb. What has failed is
    /// told: the next session on the directory tries it again.
    pub(crate) async fn settled(&self) -> Outcome {
        if !self.idle {
            return Ok(());
        }
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            settled = self.settle() => settled,
            () = interrupt.next() => Err(Failure::new(
                Code::Interrupted,
                "interrupted: what is left to archive or to remove is done at the next look into the \
                 data directory",
            )),
        }
    }

    async fn settle(&self) -> Outcome {
        let (began, mut told, mut pause) = (Instant::now(), false, LOOK);
        loop {
            let leaving = self.client.leaving().await?;
            if leaving.under_way == 0 {
                if leaving.failed > 0 {
                    print::remark(&format!(
                        "not all of {} is archived or removed (the log says why): it is tried again at the \
                         next look into the data directory",
                        jobs(leaving.failed)
                    ));
                }
                return Ok(());
            }
            if !told && began.elapsed() >= QUIET {
                told = true;
                print::remark(&format!(
                    "{} archived or removed; Ctrl-C leaves it to the next look into the data directory",
                    match leaving.under_way {
                        1 => "1 job is being".to_owned(),
                        several => format!("{several} jobs are being"),
                    }
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}

fn jobs(count: u32) -> String {
    match count {
        1 => "1 job".to_owned(),
        several => format!("{several} jobs"),
    }
}

/// Opens a session, asks, and ends it in order.
pub(crate) async fn with<T>(
    endpoint: &Endpoint,
    ask: impl AsyncFnOnce(&Session) -> Outcome<T>,
) -> Outcome<T> {
    let data_dir = match endpoint {
        Endpoint::DataDir(data_dir) => data_dir,
        Endpoint::Coordinator(addresses) => {
            let client = Client::connect(addresses).await?;
            return ask(&Session {
                client,
                idle: false,
            })
            .await;
        }
    };
    let data_dir = local::absolute(data_dir)?;
    match open(&data_dir).await? {
        Opened::Running(client) => {
            ask(&Session {
                client,
                idle: false,
            })
            .await
        }
        Opened::Own(coordinator) => {
            let session = Session {
                client: coordinator.client().clone(),
                idle: true,
            };
            let mut answer = ask(&session).await;
            if answer.is_ok()
                && let Err(failure) = session.settled().await
            {
                answer = Err(failure);
            }
            drop(session);
            let stopped = coordinator.stop().await;
            let answer = answer?;
            stopped?;
            Ok(answer)
        }
    }
}

enum Opened {
    /// Of a `run` that is under way.
    Running(Client),
    Own(Box<LocalCoordinator>),
}

async fn open(data_dir: &Path) -> Outcome<Opened> {
    if !local::has_state(data_dir) {
        return Err(Failure::not_found(format!(
            "--data-dir: no jobs were ever run in {}",
            data_dir.display()
        )));
    }
    match LocalCoordinator::start(data_dir).await {
        Ok(coordinator) => Ok(Opened::Own(Box::new(coordinator))),
        Err(StartError::InUse {
            address: Some(address),
        }) => Ok(Opened::Running(Client::connect(&address).await?)),
        Err(StartError::InUse { address: None }) => Err(Failure::usage(format!(
            "{} is in use by a coordinator: ask that one, with --coordinator",
            data_dir.display()
        ))),
        Err(StartError::Failed(failure)) => Err(failure),
    }
}
