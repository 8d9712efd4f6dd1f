//! A coordinator in this process, on a loopback port of the system's choice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_coordinator::store::StoreError;
use trainyard_coordinator::{CoordinatorConfig, CoordinatorError};

use crate::connect::Client;
use crate::exit::{Failure, Outcome};

/// Holds the address of the coordinator that has the data directory open.
const ADDRESS_FILE: &str = "coordinator.address";
/// The database that a coordinator keeps there.
const STATE_FILE: &str = "state.redb";
/// A lost worker can only be one of an earlier process: it is soon given up.
const LEASE_MS: u32 = 6_000;
const HEARTBEAT_MS: u32 = 500;

/// How long a coordinator that cannot begin may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long reading what is in a data directory may take; large ones take seconds.
const OPENING: Duration = Duration::from_secs(600);

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
        trainyard_common::files::raise();
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
            worker_lease_ms: LEASE_MS,
            single_process: true,
            // What somebody ran on this machine stays as it is until it is archived by hand.
            retain: u64::MAX,
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
        let began = Instant::now();
        let client = loop {
            let connected = tokio::select! {
                connected = Client::connect(&address) => connected,
                ended = &mut task => return Err(refusal(ended, data_dir)),
            };
            let failure = match connected {
                Ok(client) => break client,
                Err(failure) => failure,
            };
            // One that reads many records is silent meanwhile, and one that cannot begin closes its port
            // before it says why.
            match tokio::time::timeout(LAST_WORDS, &mut task).await {
                Ok(ended) => return Err(refusal(ended, data_dir)),
                Err(_) if began.elapsed() >= OPENING => return Err(failure.into()),
                Err(_) => {}
            }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use trainyard_proto::v1::JobState;

    use super::*;
    use crate::connect::{Endpoint, Logs, Watch};
    use crate::exit::Code;
    use crate::session;
    use crate::view::convert;

    const SPEC: &str = r#"{
        "name": "toy",
        "entrypoint": {"command": ["true"]},
        "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
        "objectives": [{"metric": "loss", "mode": "minimize"}],
        "searcher": {"name": "random", "max_trials": 2}
    }"#;

    async fn started(data_dir: &Path) -> LocalCoordinator {
        match LocalCoordinator::start(data_dir).await {
            Ok(coordinator) => coordinator,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Whether a session found the jobs idle, and the ids that it listed.
    async fn look(data_dir: &Path) -> Outcome<(bool, Vec<String>)> {
        session::with(&Endpoint::DataDir(data_dir.to_owned()), async |session| {
            let jobs = session.client.jobs("", 10, false).await?;
            let ids = jobs.iter().map(|job| job.job_id.clone()).collect();
            Ok((session.idle, ids))
        })
        .await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn jobs_are_kept_in_the_data_directory_and_found_by_other_terminals() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir: PathBuf = folder.path().join("data");
        assert_eq!(look(&data_dir).await.unwrap_err().code, Code::NotFound);

        let coordinator = started(&data_dir).await;
        let client = coordinator.client().clone();
        let job = client.submit(SPEC.to_owned()).await.unwrap().job_id;
        let (summary, spec) = client.job(&job).await.unwrap();
        assert_eq!(summary.name, "toy");
        assert!(!convert::job_ended(summary.state()));
        let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
        assert_eq!(spec["searcher"]["max_trials"], 2);

        // Nobody else may open the directory, but everybody finds who has it open.
        match LocalCoordinator::start(&data_dir).await {
            Err(StartError::InUse {
                address: Some(address),
            }) => {
                assert!(client.address().ends_with(&address), "{address}");
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("opened twice"),
        }
        assert_eq!(look(&data_dir).await, Ok((false, vec![job.clone()])));

        drop(client);
        coordinator.stop().await.unwrap();
        assert!(!data_dir.join(ADDRESS_FILE).exists());
        assert_eq!(look(&data_dir).await, Ok((true, vec![job])));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn streams_end_with_the_job_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let coordinator = started(folder.path()).await;
        let client = coordinator.client().clone();
        let job = client.submit(SPEC.to_owned()).await.unwrap().job_id;

        let mut watch = Watch::open(&client, &job).await.unwrap();
        assert!(watch.next().await.unwrap().is_some());
        // Sent again after the job has ended, it is no error.
        for _ in 0..2 {
            let state = client.cancel(&job).await.unwrap();
            assert_eq!(state, JobState::Cancelled);
        }
        while watch.next().await.unwrap().is_some() {}
        assert!(client.is_over(&job, None).await.unwrap());
        let mut logs = Logs::new(&client, &job, None, true);
        assert_eq!(logs.next().await, Ok(None));

        let missing = client.job("toy").await.unwrap_err();
        assert_eq!(missing.code, Code::NotFound);
        assert!(missing.message.contains(&format!("`{job}`")), "{missing}");
        let missing = client.trial(&job, 99).await.unwrap_err();
        assert_eq!(missing.code, Code::NotFound);
        assert!(missing.message.contains("99"), "{missing}");
        let refused = client.submit("name: [".to_owned()).await.unwrap_err();
        assert_eq!(refused.code, Code::Usage, "{refused}");

        drop((client, watch, logs));
        coordinator.stop().await.unwrap();
    }
}
