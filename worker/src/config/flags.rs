//! What a command line says of a worker's settings.

use std::path::PathBuf;

use serde::Serialize;

use super::{GpuChoice, Programs, VariablePattern};

/// What a command line or the environment overrides; unset fields leave the file's values.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
pub struct WorkerFlags {
    /// Address of the coordinator, `http://host:port` or `host:port`; several are tried in turn.
    #[arg(
        long = "coordinator",
        env = "TRAINYARD_COORDINATOR",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinators: Option<Vec<String>>,
    /// Trials without a GPU that run at once, one rank a slot; 0 where GPUs are all [default: 1].
    #[arg(long, env = "TRAINYARD_SLOTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// GPUs, each a slot for `device: cuda`: `all` that are visible, `none`, or numbers or UUIDs separated
    /// by commas [default: all].
    #[arg(long, env = "TRAINYARD_GPUS", value_name = "WHICH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuChoice>,
    /// Trials without a GPU that are taken ahead and wait here for a slot, so that none is idle while the
    /// coordinator stores a result: for searches of many trials of milliseconds. Searchers propose that much
    /// earlier, and a trial may wait behind a long one [default: 0].
    #[arg(long, env = "TRAINYARD_PREFETCH", value_name = "TRIALS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<usize>,
    /// Threads of each slot [default: the machine's, divided by the slots, GPUs included].
    #[arg(long, env = "TRAINYARD_THREADS_PER_SLOT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads_per_slot: Option<usize>,
    /// What the worker is called, before eight random digits [default: the host's name].
    #[arg(long, env = "TRAINYARD_WORKER_NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where other workers are accepted for all-reduce [default: a free port, of 127.0.0.1 if the
    /// coordinator is on this machine, else of every interface].
    #[arg(long, env = "TRAINYARD_COLLECTIVE_BIND", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collective_bind: Option<String>,
    /// What other workers are told to connect to [default: where this one listens; for every interface
    /// by default, the address from which this machine speaks to the coordinator].
    #[arg(long, env = "TRAINYARD_COLLECTIVE_ADVERTISE", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collective_advertise: Option<String>,
    /// Where gRPC health checks are answered, for probes [default: nowhere].
    #[arg(long, env = "TRAINYARD_HEALTH_BIND", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_bind: Option<String>,
    /// Seconds to look for a coordinator at the start before giving up; 0: for ever [default: 60].
    #[arg(
        long = "connect-timeout",
        env = "TRAINYARD_CONNECT_TIMEOUT",
        value_name = "SECONDS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<u64>,
    /// Milliseconds that leaving (SIGTERM) may take, for checkpoints and last reports [default: 60000].
    #[arg(long, env = "TRAINYARD_DRAIN_GRACE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_grace_ms: Option<u64>,
    /// Bytes that the data of one trial may take in memory; more is an error of its job [default: half of
    /// the machine's memory, or of what a control group leaves of it, divided by the slots].
    #[arg(long, env = "TRAINYARD_DATA_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_memory_bytes: Option<u64>,
    /// Bytes that are read for the data of one trial, and once more unpacked [default: eight times
    /// --data-memory-bytes].
    #[arg(long, env = "TRAINYARD_DATA_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_bytes: Option<u64>,
    /// Where programs' checkpoints lie until they are uploaded, and those that they go on from: as much room as
    /// three of each trial that runs here [default: trainyard-UID in the system's temporary directory].
    #[arg(long, env = "TRAINYARD_SCRATCH_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_dir: Option<PathBuf>,
    /// Bytes that environments of Python (`entrypoint.python.requirements`) may take together that are kept below the
    /// scratch folder; of more those go that were used longest ago [default: 64 GiB].
    #[arg(long, env = "TRAINYARD_ENVIRONMENTS_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environments_bytes: Option<u64>,
    /// Lines a second of a program's standard output that are passed on, and as many of its standard error; what is
    /// beyond is counted [default: 500].
    #[arg(long, env = "TRAINYARD_LOG_LINES_PER_SECOND", value_name = "LINES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines_per_second: Option<u32>,
    /// Whether programs of an `entrypoint` run here: they do whatever this worker's user may do [default: refuse].
    #[arg(long, env = "TRAINYARD_PROGRAMS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Programs>,
    /// What programs see of this worker's environment beside PATH, HOME and the like: names, or `PREFIX_*`,
    /// separated by commas.
    #[arg(
        long,
        env = "TRAINYARD_PASS_ENVIRONMENT",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_environment: Option<Vec<VariablePattern>>,
    /// A folder of files whose texts programs may have as secrets (`entrypoint.environment: {KEY: {secret: FILE}}`).
    #[arg(long, env = "TRAINYARD_SECRETS_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets_dir: Option<PathBuf>,
    /// The user as whom programs run, which takes a worker of root: `NAME`, `UID` or either with `:GID` behind it
    /// [default: the worker's own].
    #[arg(long, env = "TRAINYARD_PROGRAM_USER", value_name = "USER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_user: Option<String>,
    /// Bytes of memory that a rank's program may hold with all that it has started [default: no limit].
    #[arg(long, env = "TRAINYARD_PROGRAM_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_memory_bytes: Option<u64>,
    /// Processes that a rank's program may have, each of their threads counted [default: no limit].
    #[arg(long, env = "TRAINYARD_PROGRAM_PROCESSES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_processes: Option<u64>,
    /// Files that each process of a program may have open [default: what the worker may].
    #[arg(long, env = "TRAINYARD_PROGRAM_OPEN_FILES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_open_files: Option<u64>,
    /// Seconds that one attempt of a program may run [default: no limit].
    #[arg(
        long = "program-time",
        env = "TRAINYARD_PROGRAM_TIME",
        value_name = "SECONDS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_time_s: Option<u64>,
}

/// The whole command line of a worker.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "worker",
    version,
    about = "Trains trials on this machine for a coordinator."
)]
pub struct WorkerCommand {
    /// A YAML file of settings; the environment and flags win over it.
    #[arg(long, env = "TRAINYARD_WORKER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged: a level, or directives such as `info,trainyard_worker=debug`.
    #[arg(long, env = "TRAINYARD_LOG", default_value = trainyard_common::telemetry::DEFAULT_FILTER)]
    pub log: String,
    /// `human` or `json`.
    #[arg(long, env = "TRAINYARD_LOG_FORMAT", default_value_t)]
    pub log_format: trainyard_common::telemetry::LogFormat,
    #[command(flatten)]
    pub flags: WorkerFlags,
}
