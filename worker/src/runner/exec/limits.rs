//! What one rank's program may take with all that it has started: memory, processes, open files, time.
//!
//! The kernel bounds the open files of each process. Memory and processes are counted here: a control group would do
//! it for all at once, but a worker seldom may make one. So a program is seen at its limit a moment late.

use std::time::Duration;

use super::strays::{Strays, Taken};
use crate::attempt::End;
use crate::config::WorkerConfig;

/// How often processes are counted: what a program takes in between is its machine's to bear. A count reads a few
/// lines of each process of the machine.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Of each program; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes.
    memory: Option<u64>,
    /// Processes, each of their threads counted.
    processes: Option<u64>,
    /// Descriptors of each process.
    pub(super) open_files: Option<u64>,
    time: Option<Duration>,
}

/// A limit that a program has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    Memory { limit: u64, taken: u64 },
    Processes { limit: u64, taken: u64 },
    Time(Duration),
}

impl Limits {
    pub(super) fn of(config: &WorkerConfig) -> Self {
        Self {
            memory: config.program_memory_bytes,
            processes: config.program_processes,
            open_files: config.program_open_files,
            time: config.program_time_s.map(Duration::from_secs),
        }
    }

    /// Resolves once the program that has just been started, or what it has started, reaches a limit.
    pub(super) async fn exceeded(&self, strays: &Strays) -> Exceeded {
        let over_time = async {
            match self.time {
                Some(limit) => {
                    tokio::time::sleep(limit).await;
                    Exceeded::Time(limit)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exceeded = over_time => exceeded,
            exceeded = self.too_much(strays) => exceeded,
        }
    }

    /// The same, however long it runs.
    pub(super) async fn too_much(&self, strays: &Strays) -> Exceeded {
        if self.memory.is_none() && self.processes.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(COUNT_EVERY).await;
            let taken = strays.taken(self.memory.unwrap_or(u64::MAX)).await;
            if let Some(exceeded) = self.exceeded_by(taken) {
                return exceeded;
            }
        }
    }

    fn exceeded_by(&self, taken: Taken) -> Option<Exceeded> {
        let over = |limit: Option<u64>, taken: u64| limit.filter(|limit| taken > *limit);
        if let Some(limit) = over(self.memory, taken.memory) {
            let taken = taken.memory;
            return Some(Exceeded::Memory { limit, taken });
        }
        let limit = over(self.processes, taken.threads)?;
        let taken = taken.threads;
        Some(Exceeded::Processes { limit, taken })
    }
}

impl Exceeded {
    /// Whether the program is killed at once: it would take more while it is asked to end.
    pub(super) fn is_urgent(&self) -> bool {
        !matches!(self, Self::Time(_))
    }

    /// What happened, with the setting.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Memory { limit, taken } => format!(
                "the program and what it has started hold {taken} bytes of memory; this worker lets them have {limit} \
                 (--program-memory-bytes)"
            ),
            Self::Processes { limit, taken } => format!(
                "the program has {taken} processes and threads; this worker lets it have {limit} (--program-processes)"
            ),
            Self::Time(limit) => format!(
                "the program has run for {} s, which is as long as this worker lets one attempt run (--program-time)",
                limit.as_secs()
            ),
        }
    }

    /// The setting, with its value.
    pub(super) fn setting(&self) -> String {
        match self {
            Self::Memory { limit, .. } => format!("--program-memory-bytes {limit}"),
            Self::Processes { limit, .. } => format!("--program-processes {limit}"),
            Self::Time(limit) => format!("--program-time {}", limit.as_secs()),
        }
    }

    pub(super) fn end(&self, step: u64) -> End {
        match self {
            Self::Memory { .. } => End::out_of_memory(self.told(), step),
            Self::Processes { .. } | Self::Time(_) => End::error(self.told(), step),
        }
    }
}

/// Lets a program have no more open files than this, from its first instruction on.
#[allow(unsafe_code)]
pub(super) fn limit_files(command: &mut tokio::process::Command, files: u64) {
    let bound = libc::rlimit {
        rlim_cur: files,
        rlim_max: files,
    };
    let limit = move || {
        // SAFETY: a plain system call, allowed between fork and exec, of a structure that lives.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &bound) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no locks.
    unsafe {
        command.pre_exec(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_by_more_than_it() {
        let limits = Limits {
            memory: Some(100),
            processes: Some(3),
            ..Limits::default()
        };
        let taken = |memory, threads| Taken { memory, threads };
        for (given, expected) in [
            (taken(100, 3), None),
            (taken(101, 3), Some("101 bytes of memory")),
            (taken(5, 4), Some("4 processes and threads")),
            (taken(101, 4), Some("--program-memory-bytes")),
        ] {
            let told = limits.exceeded_by(given).map(|exceeded| exceeded.told());
            match expected {
                Some(words) => {
                    assert!(told.as_ref().is_some_and(|t| t.contains(words)), "{told:?}")
                }
                None => assert_eq!(told, None),
            }
        }
        assert_eq!(
            Limits::default().exceeded_by(taken(u64::MAX, u64::MAX)),
            None
        );
    }
}
