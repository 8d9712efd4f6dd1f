//! `coordinator`: reads its configuration, binds its port, and runs until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Parser;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_common::telemetry::{self, LogFormat};
use trainyard_common::{config, files, process};
use trainyard_coordinator::{CoordinatorConfig, run_with};

/// Directory of the embedded database where nothing else is said.
const DEFAULT_DATA_DIR: &str = "./trainyard-data";

/// Exit code of a process that was told to stop twice, or could not stop in time, as a shell reports an interrupt.
const EXIT_INTERRUPTED: i32 = 130;

/// Beside the time to drain, how long the end may take until it is cut: a commit that is under way takes
/// well under a second.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Accepts jobs, searches, and places trials on workers.
///
/// Settings come from the file given with --config, then from the environment, then from flags.
#[derive(Debug, Parser, Serialize)]
#[command(name = "coordinator", version)]
struct Arguments {
    /// YAML file with any of the settings below (`listen`, `data_dir`, ...).
    #[arg(long, env = "TRAINYARD_CONFIG", value_name = "PATH")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// Address to serve gRPC on; port 0 takes a free one. [default: 127.0.0.1:7070]
    #[arg(long, env = "TRAINYARD_LISTEN", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,

    /// Directory of the database and, by default, of checkpoints. [default: ./trainyard-data]
    #[arg(long, env = "TRAINYARD_DATA_DIR", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,

    /// Checkpoint store of jobs that name none. [default: `checkpoints` below the data directory]
    #[arg(long, env = "TRAINYARD_CHECKPOINT_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_url: Option<String>,

    /// Addresses of etcd's members, separated by commas: records lie there instead of in the data
    /// directory, and several coordinators may run, of which one leads.
    #[arg(
        long,
        env = "TRAINYARD_ETCD",
        value_name = "URL,...",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    etcd: Vec<String>,

    /// What the keys in etcd begin with. [default: /trainyard/]
    #[arg(long, env = "TRAINYARD_ETCD_PREFIX", value_name = "PREFIX/")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_prefix: Option<String>,

    /// With --etcd, the address that clients and workers are told while this coordinator leads; needed
    /// where it listens on every interface. [default: the address that is listened on]
    #[arg(long, env = "TRAINYARD_ADVERTISE", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,

    /// A leader that is not heard of for so long is replaced: 2000 to 60000, rounded up to whole
    /// seconds. [default: 3000]
    #[arg(long, env = "TRAINYARD_LEADER_LEASE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_lease_ms: Option<u32>,

    /// etcd's --quota-backend-bytes; a warning comes at 80 % of it. [default: 2147483648]
    #[arg(long, env = "TRAINYARD_ETCD_QUOTA_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_quota_bytes: Option<u64>,

    /// Whether the leader compacts etcd's history every minute: that of all keys, also of others who
    /// share the etcd. [default: true]
    #[arg(long, env = "TRAINYARD_ETCD_COMPACT", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_compact: Option<bool>,

    /// User of etcd, where it wants one.
    #[arg(long, env = "TRAINYARD_ETCD_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_user: Option<String>,

    /// File with the password of --etcd-user.
    #[arg(long, env = "TRAINYARD_ETCD_PASSWORD_FILE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_password_file: Option<PathBuf>,

    /// PEM file with the authority that signed the certificates of etcd's members.
    #[arg(long, env = "TRAINYARD_ETCD_CA_FILE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_ca_file: Option<PathBuf>,

    /// PEM file with the certificate that etcd wants to see.
    #[arg(long, env = "TRAINYARD_ETCD_CERT_FILE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_cert_file: Option<PathBuf>,

    /// PEM file with the key of --etcd-cert-file.
    #[arg(long, env = "TRAINYARD_ETCD_KEY_FILE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd_key_file: Option<PathBuf>,

    /// With --etcd, store of metric series and logs, shared by all coordinators. [default:
    /// `trainyard-series` below the checkpoint store]
    #[arg(long, env = "TRAINYARD_SEGMENT_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_url: Option<String>,

    /// With --etcd, how long after one another objects with reports are made; those that come
    /// meanwhile share one. [default: 100]
    #[arg(long, env = "TRAINYARD_SEGMENT_FLUSH_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_flush_ms: Option<u32>,

    /// Ended jobs stay in the records for so many seconds, unless their spec says otherwise; then they move
    /// to an archive in the object store. [default: 2592000, which is 30 days]
    #[arg(long, env = "TRAINYARD_RETAIN", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<u64>,

    /// File that receives the address that is listened on, once calls are answered.
    #[arg(long, env = "TRAINYARD_PORT_FILE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    port_file: Option<PathBuf>,

    /// Workers are asked for a heartbeat this often. [default: 1000]
    #[arg(long, env = "TRAINYARD_HEARTBEAT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_ms: Option<u32>,

    /// Without a heartbeat for this long a worker counts as lost. [default: 60000]
    #[arg(
        long,
        alias = "lease-ms",
        env = "TRAINYARD_WORKER_LEASE_MS",
        value_name = "MS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_lease_ms: Option<u32>,

    /// How long a trial that is asked for its slots may take to make a checkpoint; then it is stopped
    /// without one. [default: 120000]
    #[arg(long, env = "TRAINYARD_VACATE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    vacate_ms: Option<u32>,

    /// A job that has waited this long for several slots at once is kept slots as they come free.
    /// [default: 60000]
    #[arg(long, env = "TRAINYARD_GANG_WAIT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gang_wait_ms: Option<u32>,

    /// Kept slots that have not come free for this long are taken back, after a checkpoint, from trials
    /// of no higher priority. [default: 300000]
    #[arg(long, env = "TRAINYARD_RESERVE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reserve_ms: Option<u32>,

    /// How long open calls may take to end at shutdown. [default: 5000]
    #[arg(long, env = "TRAINYARD_DRAIN_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_ms: Option<u32>,

    /// Connections at one time, of all clients; fewer where the process may have fewer files. [default: 16384]
    #[arg(long, env = "TRAINYARD_MAX_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<u32>,

    /// Connections at one time of one client, which is an address; never more than half of all.
    /// [default: 1024]
    #[arg(long, env = "TRAINYARD_MAX_CONNECTIONS_PER_CLIENT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections_per_client: Option<u32>,

    /// Open calls at one time of one client; each worker has one. [default: 4096]
    #[arg(long, env = "TRAINYARD_MAX_CALLS_PER_CLIENT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_client: Option<u32>,

    /// Those among them that watch a job or read its log. [default: 1024]
    #[arg(long, env = "TRAINYARD_MAX_WATCHERS_PER_CLIENT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_watchers_per_client: Option<u32>,

    /// What requests that are not answered yet may hold, of all clients. [default: 256]
    #[arg(long, env = "TRAINYARD_MAX_RECEIVING_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_receiving_mib: Option<u32>,

    /// And of one client. [default: 64]
    #[arg(
        long,
        env = "TRAINYARD_MAX_RECEIVING_MIB_PER_CLIENT",
        value_name = "MIB"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_receiving_mib_per_client: Option<u32>,

    /// How long after it began a request must be whole. [default: 10000]
    #[arg(long, env = "TRAINYARD_REQUEST_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_timeout_ms: Option<u32>,

    /// The specs of all jobs that have not ended, as they are stored, and a quarter of those of all jobs; beyond
    /// it no job is accepted. [default: 32768]
    #[arg(long, env = "TRAINYARD_MAX_SPECS_KIB", value_name = "KIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_specs_kib: Option<u32>,

    /// The longest bundle of a program's code that is accepted, packed (`entrypoint.ship`). [default: 64]
    #[arg(long, env = "TRAINYARD_MAX_BUNDLE_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bundle_mib: Option<u32>,

    /// Threads on which searchers compute what takes long, of all jobs together: 2 to 1024. [default: half of the
    /// cores, at least 2]
    #[arg(long, env = "TRAINYARD_SEARCH_THREADS", value_name = "THREADS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    search_threads: Option<u32>,

    /// What is logged: a level, or `tracing` directives. [default: info]
    #[arg(long, env = "TRAINYARD_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,

    /// How it is logged: human or json. [default: human]
    #[arg(long, env = "TRAINYARD_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    let config = configuration(arguments)?;
    telemetry::init(&config.log, config.log_format)?;
    files::raise();
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone(), grace(&config))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        process::survive_file_size_limit()?;
        let listener = bind(&config.listen).await?;
        let running = run_with(config, listener, shutdown, |address| {
            eprintln!("listening on {address}");
        });
        Ok(Box::pin(running).await?)
    });
    // Whatever still computes, for nobody any more, ends with the process.
    runtime.shutdown_background();
    ended
}

/// How long the end may take: each of its parts has the time to drain, and the last commit some more.
fn grace(config: &CoordinatorConfig) -> Duration {
    2 * Duration::from_millis(u64::from(config.drain_ms)) + LAST_COMMIT
}

fn configuration(arguments: &Arguments) -> Result<CoordinatorConfig> {
    let mut config: CoordinatorConfig = config::layered(arguments.config.as_deref(), arguments)?;
    if config.single_process {
        bail!(
            "single_process: true is not accepted here; expected false: workers are other processes"
        );
    }
    if config.etcd.is_empty() {
        config
            .data_dir
            .get_or_insert_with(|| PathBuf::from(DEFAULT_DATA_DIR));
    }
    config.validate()?;
    Ok(config)
}

async fn bind(listen: &str) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => " (is another coordinator running there?)",
            _ => "",
        };
        anyhow!("cannot listen on {listen}: {error}{hint}")
    })
}

/// The first SIGTERM or SIGINT asks for a clean end, the second ends at once, and so does the end of
/// `grace`. On a thread of its own: what handlers compute holds nothing of this up.
fn watch_signals(shutdown: CancellationToken, grace: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    let watch = async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        eprintln!("stopping; once more to stop at once");
        shutdown.cancel();
        if tokio::time::timeout(grace, next()).await.is_err() {
            eprintln!("the end has taken {} s: stopped", grace.as_secs());
        }
        // What was acknowledged is in the store: nothing is lost by leaving now.
        std::process::exit(EXIT_INTERRUPTED);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(watch))?;
    Ok(())
}
