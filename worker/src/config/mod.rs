//! A worker's configuration: one struct, read from a file, then the environment, then flags, and
//! checked before a port is bound. Knows nothing of sessions or attempts.

mod flags;
mod gpu_choice;
mod programs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use trainyard_common::config::ConfigError;
use trainyard_common::config::{DEFAULT_ADDRESS, layered};

use crate::data::Limits;

pub use flags::{WorkerCommand, WorkerFlags};
pub use gpu_choice::GpuChoice;
pub use programs::{Programs, VariablePattern};

/// The most slots of one worker: more than any machine has devices.
pub const MAX_SLOTS: usize = 1024;
/// The fewest reports that the buffer may be set to: room for every kind of one attempt's reports.
pub const MIN_REPORT_BUFFER: usize = 64;
/// The fewest open files that a program may be left with: the three that it is started with, the channel, its libraries.
const MIN_OPEN_FILES: u64 = 16;

/// The most lines a second of a program that may be passed on: as many bytes as the coordinator takes of one worker.
pub const MAX_LOG_LINES_PER_SECOND: u32 = 100_000;

/// Everything that can be set about a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Addresses of coordinators, tried in turn: `http://host:port` or `host:port`.
    pub coordinators: Vec<String>,
    /// Shares of the processor, each a slot of its own; GPUs are slots beside them.
    pub slots: usize,
    /// Which GPUs are slots.
    pub gpus: GpuChoice,
    /// Trials without a GPU that are taken ahead and wait here for a slot.
    pub prefetch: usize,
    /// Threads of each slot. Unset: the machine's, divided by all slots, at least 1.
    pub threads_per_slot: Option<usize>,
    /// What the worker is called; made unique by eight random digits. Unset: the host's name.
    pub name: Option<String>,
    /// Where peers are accepted for all-reduce; port 0 takes a free one. Unset: a free port, of
    /// 127.0.0.1 with a coordinator on this machine, else of every interface.
    pub collective_bind: Option<String>,
    /// The `host:port` that peers are told. Unset: the bound address; in place of an unspecified one
    /// the host's name or, with `collective_bind` unset too, the address that faces the coordinator.
    pub collective_advertise: Option<String>,
    /// Where gRPC health checks are answered; port 0 takes a free one. Unset: nowhere.
    pub health_bind: Option<String>,
    /// Coordinator and workers share this process: `memory://` stores are the same store.
    pub single_process: bool,
    /// How long the first connection may take, in seconds; 0 tries for ever. Once connected, a lost
    /// coordinator is looked for again for ever.
    pub connect_timeout_s: u64,
    /// How long leaving may take (checkpoints, last reports), in milliseconds.
    pub drain_grace_ms: u64,
    /// Reports that are held while the coordinator is away; beyond it, progress within epochs is
    /// thinned.
    pub report_buffer: usize,
    /// Bytes that the data of one attempt may take in memory. Unset: half of the machine's memory, or of
    /// what a control group or a limit of the process leaves of it, divided by all slots.
    pub data_memory_bytes: Option<u64>,
    /// Bytes that are read for the data of one attempt, and once more unpacked. Unset: eight times
    /// `data_memory_bytes`.
    pub data_bytes: Option<u64>,
    /// Where programs' checkpoints lie until they are uploaded, and those that they go on from. Unset: a
    /// folder of this user in the system's temporary directory.
    pub scratch_dir: Option<PathBuf>,
    /// Bytes that environments of Python may take together that are kept below `scratch_dir`.
    pub environments_bytes: u64,
    /// Lines a second of a program's standard output that are passed on, and as many of its standard error;
    /// what is beyond is counted.
    pub log_lines_per_second: u32,
    /// Whether programs of an `entrypoint` run here.
    pub programs: Programs,
    /// What programs see of this worker's environment, beside what every program does.
    pub pass_environment: Vec<VariablePattern>,
    /// A folder of files whose texts are secrets of programs.
    pub secrets_dir: Option<PathBuf>,
    /// The user as whom programs run: `NAME`, `UID` or either with `:GID`. Unset: the worker's own.
    pub program_user: Option<String>,
    /// Bytes that a rank's program may hold in memory with all that it has started. Unset: no limit.
    pub program_memory_bytes: Option<u64>,
    /// Processes, each of their threads counted, that a rank's program may have with all that it has started. Unset: no limit.
    pub program_processes: Option<u64>,
    /// Files that each process of a program may have open. Unset: no limit.
    pub program_open_files: Option<u64>,
    /// Seconds that one attempt of a program may run. Unset: no limit.
    pub program_time_s: Option<u64>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            coordinators: vec![DEFAULT_ADDRESS.to_owned()],
            slots: 1,
            gpus: GpuChoice::All,
            prefetch: 0,
            threads_per_slot: None,
            name: None,
            collective_bind: None,
            collective_advertise: None,
            health_bind: None,
            single_process: false,
            connect_timeout_s: 60,
            drain_grace_ms: 60_000,
            report_buffer: 16_384,
            data_memory_bytes: None,
            data_bytes: None,
            scratch_dir: None,
            // With PyTorch for GPUs one has 5 to 8 GB: some eight of these, or more that are smaller.
            environments_bytes: 64 << 30,
            log_lines_per_second: 500,
            programs: Programs::Refuse,
            pass_environment: Vec::new(),
            secrets_dir: None,
            program_user: None,
            program_memory_bytes: None,
            program_processes: None,
            program_open_files: None,
            program_time_s: None,
        }
    }
}

impl WorkerConfig {
    /// The configuration for one coordinator, everything else by default.
    pub fn for_coordinator(address: impl Into<String>) -> Self {
        Self {
            coordinators: vec![address.into()],
            ..Self::default()
        }
    }

    /// Defaults, then `file`, then what `flags` set (the environment is among them already).
    ///
    /// # Errors
    /// [`ConfigError`] that names the file or the field.
    pub fn load(file: Option<&Path>, flags: &WorkerFlags) -> Result<Self, ConfigError> {
        let config: Self = layered(file, flags)?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses what cannot work, naming the field.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with what was given and what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.coordinators.is_empty() {
            return Err(ConfigError::invalid(
                "coordinators",
                "none",
                "at least one address",
            ));
        }
        for address in &self.coordinators {
            endpoint_of(address)?;
        }
        let fewest = usize::from(self.gpus == GpuChoice::None);
        if !(fewest..=MAX_SLOTS).contains(&self.slots) {
            return Err(ConfigError::invalid(
                "slots",
                self.slots,
                format!("{fewest} to {MAX_SLOTS}"),
            ));
        }
        let most = if self.slots == 0 {
            0
        } else {
            MAX_SLOTS - self.slots
        };
        if self.prefetch > most {
            return Err(ConfigError::invalid(
                "prefetch",
                self.prefetch,
                format!("0 to {most} beside {} slots without a GPU", self.slots),
            ));
        }
        if let Some(threads) = self.threads_per_slot
            && !(1..=MAX_SLOTS).contains(&threads)
        {
            return Err(ConfigError::invalid(
                "threads_per_slot",
                threads,
                format!("1 to {MAX_SLOTS}"),
            ));
        }
        if self.report_buffer < MIN_REPORT_BUFFER {
            return Err(ConfigError::invalid(
                "report_buffer",
                self.report_buffer,
                format!("at least {MIN_REPORT_BUFFER}"),
            ));
        }
        let lines = self.log_lines_per_second;
        if !(1..=MAX_LOG_LINES_PER_SECOND).contains(&lines) {
            return Err(ConfigError::invalid(
                "log_lines_per_second",
                lines,
                format!("1 to {MAX_LOG_LINES_PER_SECOND}"),
            ));
        }
        for (field, bytes) in [
            ("data_memory_bytes", self.data_memory_bytes),
            ("data_bytes", self.data_bytes),
            ("program_memory_bytes", self.program_memory_bytes),
            ("program_processes", self.program_processes),
            ("program_time_s", self.program_time_s),
        ] {
            if bytes == Some(0) {
                return Err(ConfigError::invalid(field, 0, "at least 1"));
            }
        }
        self.validate_rest()?;
        self.validate_addresses()
    }

    fn validate_rest(&self) -> Result<(), ConfigError> {
        if let Some(files) = self
            .program_open_files
            .filter(|files| *files < MIN_OPEN_FILES)
        {
            let expected = format!("at least {MIN_OPEN_FILES}");
            return Err(ConfigError::invalid("program_open_files", files, expected));
        }
        for (field, folder) in [
            ("scratch_dir", &self.scratch_dir),
            ("secrets_dir", &self.secrets_dir),
        ] {
            if let Some(folder) = folder
                && !folder.is_absolute()
            {
                let given = format!("{:?}", folder.display().to_string());
                return Err(ConfigError::invalid(field, given, "an absolute path"));
            }
        }
        if let Some(name) = &self.name {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
                return Err(ConfigError::invalid(
                    "name",
                    format!("{name:?}"),
                    "1 to 63 letters, digits, `-`, `_` or `.`",
                ));
            }
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let host_and_port = |field, address: &str| match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
            _ => Err(ConfigError::invalid(
                field,
                format!("{address:?}"),
                "host:port",
            )),
        };
        for (field, address) in [
            ("collective_bind", &self.collective_bind),
            ("collective_advertise", &self.collective_advertise),
            ("health_bind", &self.health_bind),
        ] {
            if let Some(address) = address {
                host_and_port(field, address)?;
            }
        }
        Ok(())
    }

    /// Threads of each of the `slots`, GPUs included, on a machine that has `available`.
    pub fn threads(&self, available: usize, slots: usize) -> usize {
        self.threads_per_slot
            .unwrap_or(available / slots.max(1))
            .max(1)
    }

    /// How much the data of one attempt may take, with so many slots, GPUs included.
    pub fn data_limits(&self, slots: usize) -> Limits {
        let memory = self.data_memory_bytes.map(Limits::of_memory);
        let limits = memory.unwrap_or_else(|| Limits::of_machine(slots));
        Limits {
            bytes: self.data_bytes.unwrap_or(limits.bytes),
            ..limits
        }
    }

    /// `None`: for ever.
    pub fn connect_timeout(&self) -> Option<Duration> {
        (self.connect_timeout_s > 0).then(|| Duration::from_secs(self.connect_timeout_s))
    }
}

/// A coordinator's address as tonic wants it; `host:port` means plain HTTP/2.
///
/// # Errors
/// [`ConfigError::Invalid`] when it is no such address.
pub fn endpoint_of(address: &str) -> Result<tonic::transport::Endpoint, ConfigError> {
    let bad = || {
        ConfigError::invalid(
            "coordinators",
            format!("{address:?}"),
            "http://host:port or host:port",
        )
    };
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let uri: tonic::codegen::http::Uri = with_scheme.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(bad());
    }
    Ok(tonic::transport::Endpoint::from(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_field_and_no_other() {
        let text = include_str!("../../../docs/worker.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed: Vec<&str> = rows
            .filter_map(|row| Some(row.split_once('`')?.0))
            .collect();
        let fields = serde_json::to_value(WorkerConfig::default()).unwrap();
        let fields = fields.as_object().unwrap();
        for field in fields.keys() {
            assert!(listed.contains(&field.as_str()), "{field} is not listed");
        }
        assert_eq!(listed.len(), fields.len(), "{listed:?}");
    }

    #[test]
    fn default_is_valid() {
        WorkerConfig::default().validate().unwrap();
    }

    #[test]
    fn each_mistake_names_its_field() {
        type Change = fn(&mut WorkerConfig);
        let table: &[(&str, Change)] = &[
            ("coordinators", |c| c.coordinators.clear()),
            ("coordinators", |c| {
                c.coordinators = vec!["ftp://a:1".into()]
            }),
            ("coordinators", |c| {
                c.coordinators = vec!["not an address".into()]
            }),
            ("slots", |c| (c.slots, c.gpus) = (0, GpuChoice::None)),
            ("prefetch", |c| c.prefetch = MAX_SLOTS),
            ("prefetch", |c| (c.slots, c.prefetch) = (0, 1)),
            ("threads_per_slot", |c| c.threads_per_slot = Some(0)),
            ("report_buffer", |c| c.report_buffer = 1),
            ("name", |c| c.name = Some("a b".into())),
            ("scratch_dir", |c| c.scratch_dir = Some("here".into())),
            ("log_lines_per_second", |c| c.log_lines_per_second = 0),
            ("secrets_dir", |c| c.secrets_dir = Some("here".into())),
            ("program_memory_bytes", |c| c.program_memory_bytes = Some(0)),
            ("program_processes", |c| c.program_processes = Some(0)),
            ("program_time_s", |c| c.program_time_s = Some(0)),
            ("program_open_files", |c| c.program_open_files = Some(3)),
            ("collective_bind", |c| {
                c.collective_bind = Some("nowhere".into())
            }),
            ("collective_advertise", |c| {
                c.collective_advertise = Some("host:99999".into());
            }),
            ("health_bind", |c| c.health_bind = Some(":7071".into())),
        ];
        for (field, change) in table {
            let mut config = WorkerConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(field), "{field}: {message}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = serde_json::from_str::<WorkerConfig>(r#"{"slotz": 2}"#).unwrap_err();
        assert!(error.to_string().contains("slotz"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        use clap::Parser as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "slots: 3\nname: box\n").unwrap();
        let command = WorkerCommand::parse_from([
            "worker",
            "--coordinator",
            "a:1,b:2",
            "--slots",
            "2",
            "--connect-timeout",
            "0",
            "--programs",
            "allow",
            "--pass-environment",
            "HF_*,WANDB_MODE",
        ]);
        let config = WorkerConfig::load(Some(file.path()), &command.flags).unwrap();
        assert_eq!(config.coordinators, ["a:1", "b:2"]);
        assert_eq!((config.slots, config.name.as_deref()), (2, Some("box")));
        assert_eq!(config.connect_timeout(), None);
        assert_eq!(config.programs, Programs::Allow);
        let passed: Vec<String> = config
            .pass_environment
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(passed, ["HF_*", "WANDB_MODE"]);
        assert_eq!(WorkerConfig::default().programs, Programs::Refuse);
        std::fs::write(file.path(), "slotz: 3\n").unwrap();
        let error = WorkerConfig::load(Some(file.path()), &command.flags).unwrap_err();
        assert!(error.to_string().contains("slotz"), "{error}");
    }

    #[test]
    fn threads_are_shared_out() {
        let config = |threads| WorkerConfig {
            threads_per_slot: threads,
            ..WorkerConfig::default()
        };
        assert_eq!(config(None).threads(8, 1), 8);
        assert_eq!(config(None).threads(8, 3), 2);
        assert_eq!(config(None).threads(8, 16), 1);
        assert_eq!(config(Some(5)).threads(8, 2), 5);
    }
}
