//! Where a verb's questions go: to a coordinator, or to the jobs that `run` left
//! in `--data-dir`.

use std::path::Path;

use crate::connect::{Client, Endpoint};
use crate::exit::{Failure, Outcome};
use crate::local::{self, LocalCoordinator, StartError};

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
            let answer = ask(&session).await;
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
