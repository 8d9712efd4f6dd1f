//! Lifecycle of a coordinator: open the store, lead, restore, serve, drain, join.
//!
//! Owns the order of these steps and the tasks; decides nothing about jobs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::config::ConfigError;
use trainyard_common::ids::Term;

use crate::cluster::api::MachineConfig;
use crate::cluster::model::{CountersRecord, Record, RecordError};
use crate::cluster::{Machine, RestoreError};
use crate::config::CoordinatorConfig;
use crate::driver::clock::Clock;
use crate::driver::{Driver, DriverError, Seat};
use crate::grpc;
use crate::store::{AnyStore, MemoryStore, RedbStore, Store, StoreError};

#[cfg(feature = "etcd")]
mod ha;
#[cfg(feature = "etcd")]
mod warm;

/// Why a coordinator could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the store holds cannot be taken up: {0}")]
    Record(#[from] RecordError),
    #[error("what the store holds cannot be taken up: {0}")]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("cannot write the address to {path}: {reason}")]
    PortFile { path: PathBuf, reason: String },
    #[error("cannot serve: {0}")]
    Serve(String),
    #[error("task `{task}` ended abnormally: {reason}")]
    Task { task: &'static str, reason: String },
}

/// Runs a coordinator on `listener` until `shutdown` is cancelled (then it drains and returns `Ok`)
/// or something fails that only a restart mends: what was acknowledged is in the store by then.
pub async fn run(
    config: CoordinatorConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), CoordinatorError> {
    run_with(config, listener, shutdown, |_| {}).await
}

/// As [`run`]; writes `config.port_file` and calls `on_ready` with the address once the store is open, the state is restored and
/// calls are answered.
pub async fn run_with(
    config: CoordinatorConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), CoordinatorError> {
    config.validate()?;
    #[cfg(feature = "etcd")]
    if !config.etcd.is_empty() {
        return ha::run(config, listener, shutdown, on_ready).await;
    }
    let address = listener
        .local_addr()
        .map_err(|error| CoordinatorError::Serve(error.to_string()))?;
    let store = open_store(&config).await?;
    let term = store.acquire_term().await?;
    let clock = Clock::start();
    let machine = restore(&config, &store, term, clock).await?;
    tracing::info!(%address, %term, jobs = machine.jobs().len(), "coordinator starts");
    let limits = grpc::Limits::of(&config);
    let threads = config.search_threads();
    let running = Running::start(machine, store, clock, listener, (limits, threads))?;
    let told = match &config.port_file {
        Some(path) => write_port_file(path, address),
        None => Ok(()),
    };
    match &told {
        Ok(()) => on_ready(address),
        // Whoever waits for the file would wait for ever.
        Err(_) => shutdown.cancel(),
    }
    let drain = Duration::from_millis(u64::from(config.drain_ms));
    told.and(running.until(shutdown, drain).await)
}

/// Writes the address and a line end; readers see nothing or the whole.
fn write_port_file(path: &Path, address: SocketAddr) -> Result<(), CoordinatorError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|error| CoordinatorError::PortFile {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// The tasks of a coordinator and what ends them.
struct Running {
    driver: Task<DriverError>,
    server: Task<tonic::transport::Error>,
    store: AnyStore,
    /// Ends open calls; then the server ends.
    closing: CancellationToken,
    /// Ends the loop.
    stop: CancellationToken,
    /// Sessions and probes.
    tasks: TaskTracker,
}

/// A spawned task under its name.
struct Task<E> {
    name: &'static str,
    handle: JoinHandle<Result<(), E>>,
}

impl<E> Task<E>
where
    CoordinatorError: From<E>,
{
    async fn join(&mut self) -> Result<(), CoordinatorError> {
        let ended: Result<Result<(), E>, JoinError> = (&mut self.handle).await;
        ended
            .map_err(|error| CoordinatorError::Task {
                task: self.name,
                reason: error.to_string(),
            })?
            .map_err(CoordinatorError::from)
    }
}

impl From<tonic::transport::Error> for CoordinatorError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Serve(error.to_string())
    }
}

impl Running {
    fn start(
        machine: Machine,
        store: AnyStore,
        clock: Clock,
        listener: TcpListener,
        (limits, threads): (grpc::Limits, usize),
    ) -> Result<Self, StoreError> {
        let closing = CancellationToken::new();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let driver = Driver::new(
            machine,
            store.clone(),
            clock,
            closing.clone(),
            tasks.clone(),
            threads,
        );
        let (driver, handle) = driver?;
        let seat = Seat::of(handle);
        let server = grpc::serve(seat, listener, limits, closing.clone(), tasks.clone());
        Ok(Self {
            driver: Task {
                name: "driver",
                handle: tokio::spawn(driver.run(stop.clone())),
            },
            server: Task {
                name: "grpc",
                handle: tokio::spawn(server),
            },
            store,
            closing,
            stop,
            tasks,
        })
    }

    /// Waits for `shutdown` or for a task or a store that fails, then ends everything within `drain` for each
    /// part. The first failure is the result.
    async fn until(
        mut self,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<(), CoordinatorError> {
        let (mut driver_ended, mut server_ended) = (false, false);
        let mut result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = self.driver.join() => { driver_ended = true; ended }
            ended = self.server.join() => { server_ended = true; ended }
            // Found by a read, which the loop knows nothing of.
            error = self.store.broken() => Err(error.into()),
        };
        tracing::info!("coordinator stops");
        self.closing.cancel();
        if !server_ended {
            result = result.and(within(&mut self.server, drain).await);
        }
        self.stop.cancel();
        if !driver_ended {
            // Not cut: it is writing what was decided, and that ends by itself.
            result = result.and(self.driver.join().await);
        }
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some sessions or probes did not end in time");
        }
        result
    }
}

/// Waits for a task to end; cuts it off after `limit`. Open calls that are cut are no failure.
async fn within<E>(task: &mut Task<E>, limit: Duration) -> Result<(), CoordinatorError>
where
    CoordinatorError: From<E>,
{
    match tokio::time::timeout(limit, task.join()).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!(
                task = task.name,
                "open calls did not end in time and are cut"
            );
            task.handle.abort();
            Ok(())
        }
    }
}

async fn open_store(config: &CoordinatorConfig) -> Result<AnyStore, StoreError> {
    match &config.data_dir {
        Some(directory) => Ok(AnyStore::Redb(RedbStore::open(directory).await?)),
        None => Ok(AnyStore::Memory(MemoryStore::new())),
    }
}

async fn restore(
    config: &CoordinatorConfig,
    store: &AnyStore,
    term: Term,
    clock: Clock,
) -> Result<Machine, CoordinatorError> {
    let stored = store.load().await?;
    let records = stored.iter().map(|(key, value)| Record::decode(key, value));
    let records: Vec<Record> = records.collect::<Result<_, _>>()?;
    machine(config, term, clock, records)
}

/// The machine that records make.
fn machine(
    config: &CoordinatorConfig,
    term: Term,
    clock: Clock,
    records: Vec<Record>,
) -> Result<Machine, CoordinatorError> {
    // Records in etcd belong to no directory.
    let directory_url = match config.etcd.is_empty() {
        true => config.directory_url()?,
        false => None,
    };
    for record in &records {
        if let Record::Counters(CountersRecord {
            directory_url: Some(before),
            ..
        }) = record
            && directory_url.as_ref().is_some_and(|now| now != before)
        {
            let now = directory_url.as_deref();
            tracing::info!(
                before,
                now,
                "the data directory was moved or copied: what its records name in it follows"
            );
        }
    }
    let machine_config = MachineConfig {
        directory_url,
        lease_ms: u64::from(config.worker_lease_ms),
        heartbeat_ms: u64::from(config.heartbeat_ms),
        single_process: config.single_process,
        default_checkpoint_url: config.default_checkpoint_url()?,
        token_secret: secret(),
        // The first field of a random UUID is 32 random bits.
        cluster: uuid::Uuid::new_v4().as_fields().0.max(1),
        retain_ms: config.retain.saturating_mul(1_000),
        vacate_ms: u64::from(config.vacate_ms),
        gang_wait_ms: u64::from(config.gang_wait_ms),
        reserve_ms: u64::from(config.reserve_ms),
        max_spec_bytes: (config.max_specs_kib as usize).saturating_mul(1024),
        // One person waits in front of it.
        probe_retry_ms: if config.single_process { 2_000 } else { 15_000 },
        ..MachineConfig::default()
    };
    Ok(Machine::restore(
        term,
        machine_config,
        clock.now_ms(),
        records,
    )?)
}

/// 32 bytes of which 244 bits come from the system's random source.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret
}
