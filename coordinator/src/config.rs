//! The coordinator's configuration and its validation.
//!
//! Owns the fields, their defaults and their limits; `main` fills it from file, environment and
//! flags, `coordinatorctl run` and tests fill it in code.

mod etcd;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use trainyard_common::bundle::MAX_PACKED_MIB;
use trainyard_common::config::{ConfigError, DEFAULT_ADDRESS};
use trainyard_common::store_url;
use trainyard_common::telemetry::{self, LogFormat};

use crate::driver::thinking::LEAST_THREADS;

/// Shortest and longest interval between heartbeats that is accepted, milliseconds.
const HEARTBEAT_RANGE_MS: std::ops::RangeInclusive<u32> = 10..=60_000;

/// A lease must outlast this many heartbeats, so that one late packet loses no worker.
const HEARTBEATS_PER_LEASE: u32 = 2;

/// Longest lease, milliseconds: after an hour nobody waits for a lost worker any more.
const MAX_LEASE_MS: u32 = 3_600_000;

/// Longest of the waits of placement: a day.
const MAX_WAIT_MS: u32 = 86_400_000;

/// Least and most of what clients may have at one time: a person with a few terminals, and more than one
/// process can serve.
const LEAST_SHARE: u32 = 8;
const MAX_SHARE: u32 = 1_000_000;

/// Least and most of what may be received at one time, MiB: one message of a worker, and a large machine's memory.
const LEAST_RECEIVING_MIB: u32 = (trainyard_proto::MAX_MESSAGE_BYTES / (1024 * 1024)) as u32;
const MAX_MIB: u32 = 1_024 * 1_024;

/// Most threads for searchers: more than a machine has cores.
const MAX_THREADS: usize = 1_024;

/// How long ended jobs stay where nothing is said, seconds: 30 days, in which somebody may want to extend
/// a search.
const DEFAULT_RETAIN: u64 = 30 * 24 * 3_600;

/// How a coordinator is started. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// `host:port` to serve gRPC on; port 0 takes a free one. `run` ignores it: the listener is given.
    pub listen: String,
    /// Directory of the embedded database; none keeps everything in memory, for as long as the
    /// process lives.
    pub data_dir: Option<PathBuf>,
    /// File that receives the address that is listened on, once it is.
    pub port_file: Option<PathBuf>,
    /// Workers are asked for a heartbeat this often, milliseconds.
    pub heartbeat_ms: u32,
    /// Without a heartbeat for this long a worker counts as lost, milliseconds. Longer than a take-over
    /// by another coordinator may last: its workers are not to be lost meanwhile.
    #[serde(alias = "lease_ms")]
    pub worker_lease_ms: u32,
    /// How long an attempt that is asked for its slots may take to make a checkpoint, milliseconds.
    pub vacate_ms: u32,
    /// A job that has waited this long for several slots at once is kept slots, milliseconds.
    pub gang_wait_ms: u32,
    /// Slots that are kept and have not come free for this long are taken back from attempts of no
    /// higher priority, milliseconds.
    pub reserve_ms: u32,
    /// How long open calls may take to end at shutdown before they are cut, milliseconds.
    pub drain_ms: u32,
    /// Connections at one time, of all clients and of one, which is an address. Where the process may have
    /// fewer files than that, there are fewer; and one client never has more than half of them.
    pub max_connections: u32,
    pub max_connections_per_client: u32,
    /// Open calls of one client at one time; each worker has one.
    pub max_calls_per_client: u32,
    /// Those among them that watch a job or read its log.
    pub max_watchers_per_client: u32,
    /// What requests that are not answered yet may hold, MiB: of all clients and of one.
    pub max_receiving_mib: u32,
    pub max_receiving_mib_per_client: u32,
    /// How long after its first byte a request must be whole, milliseconds.
    pub request_timeout_ms: u32,
    /// The specs of all jobs that have not ended, KiB as they are stored; of those that have, four times as much.
    pub max_specs_kib: u32,
    /// The longest bundle of a program's code that is accepted, packed, MiB. Two at a time are held in memory while
    /// they come.
    pub max_bundle_mib: u32,
    /// Threads on which searchers compute what takes long, of all jobs together; one of them is left for what does not.
    /// Unset: half of the cores, and at least two.
    pub search_threads: Option<u32>,
    /// Store of checkpoints of jobs that name none. Unset: `checkpoints` below the data directory.
    pub checkpoint_url: Option<String>,
    /// Addresses of etcd's members (`http://host:2379`): records lie there instead of in `data_dir`, and
    /// several coordinators may run, of which one leads. Needs the cargo feature `etcd`.
    pub etcd: Vec<String>,
    /// What the keys in etcd begin with; ends in `/`. Clusters that share an etcd have one each.
    pub etcd_prefix: String,
    /// What clients and workers are told to connect to while this coordinator leads: needed where it
    /// listens on every interface. Unset: the address that is listened on.
    pub advertise: Option<String>,
    /// A leader that is not heard of for so long is replaced, milliseconds; rounded up to whole seconds
    /// and renewed at a third of it.
    pub leader_lease_ms: u32,
    /// etcd's `--quota-backend-bytes`: people are warned at four fifths of it.
    pub etcd_quota_bytes: u64,
    /// Whether the leader compacts etcd's history every minute. etcd has one history for all its keys, so
    /// that others who share it lose theirs too.
    pub etcd_compact: bool,
    /// User of etcd, where it wants one, and the file with the password.
    pub etcd_user: Option<String>,
    pub etcd_password_file: Option<PathBuf>,
    /// PEM file with the authority that signed the certificates of etcd's members.
    pub etcd_ca_file: Option<PathBuf>,
    /// PEM files with the certificate and the key that etcd wants to see.
    pub etcd_cert_file: Option<PathBuf>,
    pub etcd_key_file: Option<PathBuf>,
    /// Store of metric series and logs when records are in etcd: shared by all coordinators. Unset:
    /// `trainyard-series` below `checkpoint_url`.
    pub segment_url: Option<String>,
    /// With etcd: how long after one another segment objects with reports are made, milliseconds.
    pub segment_flush_ms: u32,
    /// Ended jobs whose spec does not say how long stay in the records for so many seconds, then move to an
    /// archive.
    pub retain: u64,
    /// All workers live in this process: `memory://` checkpoint stores are acceptable.
    pub single_process: bool,
    /// What is logged: a level or `tracing` directives.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            listen: DEFAULT_ADDRESS.to_owned(),
            data_dir: None,
            port_file: None,
            heartbeat_ms: 1_000,
            worker_lease_ms: 60_000,
            vacate_ms: 120_000,
            gang_wait_ms: 60_000,
            reserve_ms: 300_000,
            drain_ms: 5_000,
            max_connections: 16_384,
            max_connections_per_client: 1_024,
            max_calls_per_client: 4_096,
            max_watchers_per_client: 1_024,
            max_receiving_mib: 256,
            max_receiving_mib_per_client: 64,
            request_timeout_ms: 10_000,
            max_specs_kib: 32 * 1_024,
            max_bundle_mib: 64,
            search_threads: None,
            checkpoint_url: None,
            etcd: Vec::new(),
            etcd_prefix: etcd::DEFAULT_PREFIX.to_owned(),
            advertise: None,
            leader_lease_ms: 3_000,
            etcd_quota_bytes: etcd::DEFAULT_QUOTA_BYTES,
            etcd_compact: true,
            etcd_user: None,
            etcd_password_file: None,
            etcd_ca_file: None,
            etcd_cert_file: None,
            etcd_key_file: None,
            segment_url: None,
            segment_flush_ms: 100,
            retain: DEFAULT_RETAIN,
            single_process: false,
            log: telemetry::DEFAULT_FILTER.to_owned(),
            log_format: LogFormat::Human,
        }
    }
}

impl CoordinatorConfig {
    /// Where jobs that name no store keep their checkpoints.
    pub fn default_checkpoint_url(&self) -> Result<String, ConfigError> {
        if let Some(url) = &self.checkpoint_url {
            return Ok(url.clone());
        }
        Ok(self.directory_url()?.map_or_else(
            || "memory://trainyard/checkpoints".to_owned(),
            |directory| format!("{directory}/checkpoints"),
        ))
    }

    /// Threads for searchers.
    pub fn search_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.search_threads.map(|threads| threads as usize);
        threads.unwrap_or_else(|| (cores() / 2).max(LEAST_THREADS))
    }

    /// Where the data directory lies now, without a slash at the end.
    pub fn directory_url(&self) -> Result<Option<String>, ConfigError> {
        let Some(directory) = &self.data_dir else {
            return Ok(None);
        };
        let refused = |reason: String| {
            ConfigError::invalid(
                "data_dir",
                directory.display(),
                format!("a path ({reason})"),
            )
        };
        let path = std::path::absolute(directory).map_err(|error| refused(error.to_string()))?;
        let url = url::Url::from_file_path(&path)
            .map_err(|()| refused("it has no file URL".to_owned()))?;
        let url = url.as_str();
        Ok(Some(url.strip_suffix('/').unwrap_or(url).to_owned()))
    }

    /// Checks what types cannot: ranges and how fields fit together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self
            .listen
            .rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(ConfigError::invalid(
                "listen",
                format!("`{}`", self.listen),
                "host:port, such as 127.0.0.1:7070",
            ));
        }
        if !HEARTBEAT_RANGE_MS.contains(&self.heartbeat_ms) {
            return Err(ConfigError::invalid(
                "heartbeat_ms",
                self.heartbeat_ms,
                format!(
                    "{} to {}",
                    HEARTBEAT_RANGE_MS.start(),
                    HEARTBEAT_RANGE_MS.end()
                ),
            ));
        }
        let shortest = self.heartbeat_ms * HEARTBEATS_PER_LEASE;
        if !(shortest..=MAX_LEASE_MS).contains(&self.worker_lease_ms) {
            return Err(ConfigError::invalid(
                "worker_lease_ms",
                self.worker_lease_ms,
                format!(
                    "{shortest} ({HEARTBEATS_PER_LEASE} heartbeats of {} ms) to {MAX_LEASE_MS}",
                    self.heartbeat_ms
                ),
            ));
        }
        let waits = [
            ("vacate_ms", self.vacate_ms, 1_000),
            ("gang_wait_ms", self.gang_wait_ms, 0),
            ("reserve_ms", self.reserve_ms, 0),
        ];
        for (field, given, least) in waits {
            if !(least..=MAX_WAIT_MS).contains(&given) {
                let accepted = format!("{least} to {MAX_WAIT_MS} (a day)");
                return Err(ConfigError::invalid(field, given, accepted));
            }
        }
        self.validate_shares()?;
        if let Some(url) = &self.checkpoint_url {
            store_url::open(url)
                .map_err(|error| ConfigError::unusable("checkpoint_url", error.to_string()))?;
        }
        self.validate_etcd()?;
        telemetry::check_filter(&self.log).map_err(|error| {
            ConfigError::invalid("log", format!("`{}`", self.log), error.to_string())
        })
    }

    /// What clients may have, and what all of it may come to.
    fn validate_shares(&self) -> Result<(), ConfigError> {
        let shares = [
            ("max_connections", self.max_connections),
            (
                "max_connections_per_client",
                self.max_connections_per_client,
            ),
            ("max_calls_per_client", self.max_calls_per_client),
            ("max_watchers_per_client", self.max_watchers_per_client),
        ];
        for (field, given) in shares {
            if !(LEAST_SHARE..=MAX_SHARE).contains(&given) {
                let accepted = format!("{LEAST_SHARE} to {MAX_SHARE}");
                return Err(ConfigError::invalid(field, given, accepted));
            }
        }
        let sizes = [
            (
                "max_receiving_mib",
                self.max_receiving_mib,
                LEAST_RECEIVING_MIB,
                MAX_MIB,
            ),
            (
                "max_receiving_mib_per_client",
                self.max_receiving_mib_per_client,
                LEAST_RECEIVING_MIB,
                MAX_MIB,
            ),
            (
                "request_timeout_ms",
                self.request_timeout_ms,
                100,
                MAX_WAIT_MS,
            ),
            ("max_specs_kib", self.max_specs_kib, 1_024, 1_024 * MAX_MIB),
            ("max_bundle_mib", self.max_bundle_mib, 1, MAX_PACKED_MIB),
        ];
        for (field, given, least, most) in sizes {
            if !(least..=most).contains(&given) {
                let accepted = format!("{least} to {most}");
                return Err(ConfigError::invalid(field, given, accepted));
            }
        }
        if let Some(given) = self.search_threads
            && !(LEAST_THREADS..=MAX_THREADS).contains(&(given as usize))
        {
            let accepted = format!("{LEAST_THREADS} to {MAX_THREADS}");
            return Err(ConfigError::invalid("search_threads", given, accepted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_bad_fields_are_named() {
        CoordinatorConfig::default().validate().unwrap();
        type Edit = fn(&mut CoordinatorConfig);
        let cases: [(&str, Edit); 16] = [
            ("search_threads", |c| c.search_threads = Some(1)),
            ("listen", |c| c.listen = "here".to_owned()),
            ("listen", |c| c.listen = "localhost:99999".to_owned()),
            ("heartbeat_ms", |c| c.heartbeat_ms = 0),
            ("worker_lease_ms", |c| c.worker_lease_ms = 1_500),
            ("vacate_ms", |c| c.vacate_ms = 999),
            ("gang_wait_ms", |c| c.gang_wait_ms = 86_400_001),
            ("reserve_ms", |c| c.reserve_ms = u32::MAX),
            ("max_connections", |c| c.max_connections = 7),
            ("max_watchers_per_client", |c| {
                c.max_watchers_per_client = 1_000_001;
            }),
            ("max_receiving_mib", |c| c.max_receiving_mib = 15),
            ("request_timeout_ms", |c| c.request_timeout_ms = 99),
            ("max_specs_kib", |c| c.max_specs_kib = 0),
            ("max_bundle_mib", |c| c.max_bundle_mib = 1_025),
            ("checkpoint_url: `foo://x`: unknown scheme", |c| {
                c.checkpoint_url = Some("foo://x".to_owned());
            }),
            ("log", |c| c.log = "info,=x=y".to_owned()),
        ];
        for (field, edit) in cases {
            let mut config = CoordinatorConfig::default();
            edit(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
