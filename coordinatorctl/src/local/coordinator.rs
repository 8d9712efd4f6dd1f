//! A coordinator in this process, on a loopback port of the system's choice.

use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_coordinator::store::StoreError;
use trainyard_coordinator::{CoordinatorConfig, CoordinatorError};

use crate::client::Client;
use crate::exit::{Failure, Outcome};

/// Holds the address of the coordinator that has the data directory open.
const ADDRESS_FILE: &str = "coordinator.address";
/// The database that a coordinator keeps there.
const STATE_FILE: &str = "state.redb";
/// A lost worker can only be one of an earlier process: it is soon given up.
const LEASE_MS: u32 = 6_000;
const HEARTBEAT_MS: u32 = 500;

/// Why no coordinator could be started on a data directory.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Another one has it open; its address, where it left one.
    InUse {
        address: Option<String>,
    },
    Failed(Failure),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A running coordinator; `stop` ends it in order.
pub(crate) struct LocalCoordinator {
    client: Client,
    data_dir: PathBuf,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), CoordinatorError>>,
}

/// Whether a coordinator has ever kept anything in this directory.
pub(crate) fn has_state(data_dir: &Path) -> bool {
    data_dir.join(STATE_FILE).exists()
}

impl LocalCoordinator {
    /// Opens the data directory, which is made if it is not there, and listens.
    pub(crate) async fn start(data_dir: &Path) -> Result<Self, StartError> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|error| Failure::failed(format!("cannot listen on 127.0.0.1: {error}")))?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::failed(format!("no address to listen on: {error}")))?;
        let config = CoordinatorConfig {
            listen: address.to_string(),
            data_dir: Some(data_dir.to_owned()),
            heartbeat_ms: HEARTBEAT_MS,
            lease_ms: LEASE_MS,
            single_process: true,
            ..CoordinatorConfig::default()
        };
        let shutdown = CancellationToken::new();
        let run = Box::pin(trainyard_coordinator::run(
            config,
            listener,
            shutdown.clone(),
        ));
        let mut task = tokio::spawn(run);
        // The port is bound, so a connection waits in its queue until the store is open.
        let address = address.to_string();
        let client = tokio::select! {
            connected = Client::connect(&address) => connected?,
            ended = &mut task => return Err(refusal(ended, data_dir)),
        };
        let mut local = Self {
            client,
            data_dir: data_dir.to_owned(),
            shutdown,
            task,
        };
        local.ready().await?;
        // By it another terminal finds this coordinator; it can do without.
        if let Err(error) = std::fs::write(data_dir.join(ADDRESS_FILE), address) {
            tracing::warn!(%error, "cannot write {ADDRESS_FILE}");
        }
        Ok(local)
    }

    /// Waits for the first answer, or for the reason why there is none.
    async fn ready(&mut self) -> Result<(), StartError> {
        tokio::select! {
            answer = self.client.workers() => match answer {
                Ok(_) => Ok(()),
                Err(failure) if !self.task.is_finished() => Err(failure.into()),
                Err(_) => Err(refusal((&mut self.task).await, &self.data_dir)),
            },
            ended = &mut self.task => Err(refusal(ended, &self.data_dir)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves when the coordinator has ended by itself, with the reason.
    pub(crate) async fn failed(&mut self) -> Failure {
        match refusal((&mut self.task).await, &self.data_dir) {
            StartError::Failed(failure) => failure,
            StartError::InUse { .. } => in_use(&self.data_dir),
        }
    }

    /// Ends it in order: what was acknowledged is in the data directory.
    pub(crate) async fn stop(self) -> Outcome {
        self.shutdown.cancel();
        let ended = self.task.await;
        let _ = std::fs::remove_file(self.data_dir.join(ADDRESS_FILE));
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::failed(format!("the coordinator failed: {error}"))),
            Err(error) => Err(Failure::failed(format!("the coordinator failed: {error}"))),
        }
    }
}

pub(crate) fn in_use(data_dir: &Path) -> Failure {
    Failure::usage(format!(
        "{} is in use by another `run` or coordinator: wait for it, stop it, or choose another \
         with --data-dir",
        data_dir.display()
    ))
}

type Ended = Result<Result<(), CoordinatorError>, tokio::task::JoinError>;

fn refusal(ended: Ended, data_dir: &Path) -> StartError {
    match ended {
        Ok(Err(CoordinatorError::Store(StoreError::InUse { .. }))) => StartError::InUse {
            address: std::fs::read_to_string(data_dir.join(ADDRESS_FILE))
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty()),
        },
        Ok(Err(error)) => StartError::Failed(Failure::failed(error.to_string())),
        Ok(Ok(())) => StartError::Failed(Failure::failed("the coordinator ended by itself")),
        Err(error) => {
            StartError::Failed(Failure::failed(format!("the coordinator failed: {error}")))
        }
    }
}
