//! Processes of a program, wherever they have gone: they have the attempt's secret in their environment, are found by
//! it, counted, and end with the attempt.
//!
//! A control group would hold them, too, but a worker seldom may make one; a subreaper would be handed all that any
//! program leaves behind, and could not tell whose it was. What is not found is a process that has emptied its
//! environment and whose parent is gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::outbox::Reporter;
use crate::runner::user::User;

/// The variable with an attempt's secret.
pub(super) const TOKEN: &str = "TRAINYARD_TOKEN";

/// Looks at all processes by who is dropped and holds up a thread for it: enough for what was just being started.
const LAST_ROUNDS: u32 = 5;

/// What a program and its processes take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes; what several share counts once.
    pub(super) memory: u64,
    /// Threads of all processes.
    pub(super) threads: u64,
}

/// What marked processes have, and who can see it.
#[derive(Debug, Clone)]
struct Marker {
    /// `NAME=value`.
    text: String,
    user: Option<Arc<User>>,
}

impl Marker {
    /// What the worker sees of a process, or else the program's user.
    fn sees<T>(&self, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match (look(), &self.user) {
            (Err(error), Some(user)) if error.kind() == io::ErrorKind::PermissionDenied => {
                user.does(look)?
            }
            (seen, _) => seen,
        }
    }
}

/// Ends whatever has a variable in its environment, and what descends from it; once, where it is dropped before.
#[derive(Debug)]
pub(super) struct Strays {
    /// `NAME=value`, of this attempt alone.
    marker: String,
    /// As whom they run, if not as the worker.
    user: Option<Arc<User>>,
    /// There are none any more.
    ended: AtomicBool,
}

impl Strays {
    pub(super) fn marked(name: &str, value: &str) -> Self {
        Self {
            marker: format!("{name}={value}"),
            user: None,
            ended: AtomicBool::new(false),
        }
    }

    /// Of a program of another user: in a container root may not look into others' environments, they may.
    pub(super) fn of(mut self, user: Option<&Arc<User>>) -> Self {
        self.user = user.cloned();
        self
    }

    fn marker(&self) -> Marker {
        Marker {
            text: self.marker.clone(),
            user: self.user.clone(),
        }
    }

    /// Kills them until there are none, and tells how many there were.
    pub(super) async fn end(&self, reporter: &Reporter) {
        match self.ended().await {
            Some(0) => {}
            Some(count) => reporter.warn(&format!(
                "{count} processes that had left the program's group were killed with it"
            )),
            None => reporter.warn("some processes that the program has left behind do not end"),
        }
    }

    /// What the program takes with all that it has started. `much`: memory above this is counted page by page, so that
    /// what processes share counts once.
    pub(super) async fn taken(&self, much: u64) -> Taken {
        let marker = self.marker();
        let counted = tokio::task::spawn_blocking(move || processes::taken(&marker, much));
        // A worker that is shutting down counts nothing any more.
        counted.await.unwrap_or_default()
    }

    /// How many there were, or `None` where some would not end.
    async fn ended(&self) -> Option<usize> {
        let marker = self.marker();
        // A worker that is shutting down runs no more tasks; then what is dropped looks.
        let ended = tokio::task::spawn_blocking(move || processes::end(&marker, processes::ROUNDS));
        let Ok(ended) = ended.await else {
            return Some(0);
        };
        self.ended.store(ended.is_some(), Ordering::Relaxed);
        ended
    }
}

impl Drop for Strays {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            processes::end(&self.marker(), LAST_ROUNDS);
        }
    }
}

#[cfg(target_os = "linux")]
mod processes {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::io::Read as _;
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
    use std::time::Duration;

    use libc::pid_t;

    use super::{Marker, Taken};

    /// Looks at all processes: each may find what was started since the one before. Together they take about two
    /// seconds, in which what was killed has ended unless the kernel itself hangs.
    pub(super) const ROUNDS: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(10);
    /// As much of an environment as is looked at, in bytes: Linux holds at most a quarter of the stack's limit.
    const MAX_ENVIRONMENT: u64 = 8 << 20;

    pub(super) fn end(marker: &Marker, rounds: u32) -> Option<usize> {
        let mut killed = BTreeSet::new();
        for round in 0..rounds {
            if round > 0 {
                std::thread::sleep(PAUSE);
            }
            let found = family(marker);
            if found.is_empty() {
                return Some(killed.len());
            }
            // All are held before the first is killed: what descends from it would have another parent then.
            let held: Vec<(pid_t, OwnedFd)> = found
                .into_iter()
                .filter_map(|(process, descends)| Some((process, hold(process, marker, descends)?)))
                .collect();
            for (process, descriptor) in held {
                if kill(&descriptor) {
                    killed.insert(process);
                }
            }
        }
        None
    }

    pub(super) fn taken(marker: &Marker, much: u64) -> Taken {
        let all: Vec<pid_t> = family(marker)
            .into_iter()
            .map(|(process, _)| process)
            .collect();
        let memory = all.iter().filter_map(|process| resident(*process)).sum();
        let threads = all.iter().filter_map(|process| threads(*process)).sum();
        if memory <= much {
            return Taken { memory, threads };
        }
        let shares = all.iter();
        let shares =
            shares.filter_map(|process| share(*process, marker).or_else(|| resident(*process)));
        Taken {
            memory: shares.sum(),
            threads,
        }
    }

    /// Bytes of it that are in memory, shared ones included.
    fn resident(process: pid_t) -> Option<u64> {
        let sizes = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
        let pages: u64 = sizes.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page_bytes())
    }

    /// The same, of a page that several share its part alone (`Pss`).
    fn share(process: pid_t, marker: &Marker) -> Option<u64> {
        let read = || fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
        let sizes = marker.sees(read).ok()?;
        let line = sizes.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    /// The twentieth field of its state.
    fn threads(process: pid_t) -> Option<u64> {
        let state = fs::read(format!("/proc/{process}/stat")).ok()?;
        let state = String::from_utf8_lossy(&state).into_owned();
        let (_, behind) = state.rsplit_once(')')?;
        // The name before it is the second.
        behind.split_whitespace().nth(17)?.parse().ok()
    }

    #[allow(unsafe_code)]
    fn page_bytes() -> u64 {
        // SAFETY: a call without pointers.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(bytes).unwrap_or(4096)
    }

    /// Marked processes (`None`), and what descends from them (the parent that it had).
    fn family(marker: &Marker) -> Vec<(pid_t, Option<pid_t>)> {
        let own = std::process::id();
        let all: Vec<pid_t> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| u32::try_from(*process) != Ok(own))
            .collect();
        let marked = all
            .iter()
            .copied()
            .filter(|process| is_marked(*process, marker));
        let mut found: BTreeMap<pid_t, Option<pid_t>> =
            marked.map(|process| (process, None)).collect();
        if found.is_empty() {
            return Vec::new();
        }
        let parents: Vec<(pid_t, pid_t)> = all
            .iter()
            .filter_map(|process| Some((*process, parent(*process)?)))
            .collect();
        loop {
            let known = found.len();
            for (process, parent) in &parents {
                if found.contains_key(parent) {
                    found.entry(*process).or_insert(Some(*parent));
                }
            }
            if found.len() == known {
                return found.into_iter().collect();
            }
        }
    }

    /// A process that has ended has no environment any more.
    fn is_marked(process: pid_t, marker: &Marker) -> bool {
        let read = || {
            let mut environment = Vec::new();
            fs::File::open(format!("/proc/{process}/environ"))
                .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment))
                .map(|_| environment)
        };
        // Another user's cannot be read, and is none of ours.
        let environment = marker.sees(read).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == marker.text.as_bytes())
    }

    /// The fourth field of its state, behind the name in parentheses, which may hold anything. `None`: it has ended.
    fn parent(process: pid_t) -> Option<pid_t> {
        let state = fs::read(format!("/proc/{process}/stat")).ok()?;
        let state = String::from_utf8_lossy(&state).into_owned();
        let (_, behind) = state.rsplit_once(')')?;
        let mut fields = behind.split_whitespace();
        let alive = !matches!(fields.next(), Some("Z" | "X") | None);
        fields.next()?.parse().ok().filter(|_| alive)
    }

    /// A descriptor of the process that was looked at, and of no other that has its number by now.
    #[allow(unsafe_code)]
    fn hold(process: pid_t, marker: &Marker, descends: Option<pid_t>) -> Option<OwnedFd> {
        // SAFETY: a plain system call without pointers.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
        let descriptor = RawFd::try_from(descriptor).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel has just opened it for this call alone.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // Looked at again, now that the number stands for one process.
        let same = match descends {
            None => is_marked(process, marker),
            Some(before) => parent(process) == Some(before) || is_marked(process, marker),
        };
        same.then_some(descriptor)
    }

    #[allow(unsafe_code)]
    fn kill(descriptor: &OwnedFd) -> bool {
        // SAFETY: a plain system call; no information about the signal is passed.
        let killed = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                descriptor.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        killed == 0
    }
}

/// Other systems show nobody's environment; groups end all the same.
#[cfg(not(target_os = "linux"))]
mod processes {
    pub(super) const ROUNDS: u32 = 1;

    pub(super) fn taken(_: &super::Marker, _: u64) -> super::Taken {
        super::Taken::default()
    }

    pub(super) fn end(_: &super::Marker, _: u32) -> Option<usize> {
        Some(0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::process::Command;

    use super::*;

    /// Each leaves its group, and holds the pipe as long as it lives.
    const FAMILY: &str = "setsid sleep 1000 & (setsid sh -c 'sleep 1001 & wait' &)
        setsid env -i sh -c 'sleep 1002 & echo started; wait' & wait";

    #[tokio::test]
    async fn whoever_has_left_the_group_ends_with_the_attempt_and_nobody_else() {
        for dropped in [false, true] {
            let (marker, other) = (
                uuid::Uuid::new_v4().to_string(),
                uuid::Uuid::new_v4().to_string(),
            );
            let start = |marker: &str, script: &str| {
                Command::new("sh")
                    .args(["-c", script])
                    .env("MARKER_FOR_TEST", marker)
                    .stdout(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()
                    .unwrap()
            };
            let mut bystander = start(&other, "exec sleep 1000");
            // Its own shell stays, as the parent of what has no environment.
            let mut child = start(&marker, FAMILY);
            let mut pipe = child.stdout.take().unwrap();
            let mut first = [0; 8];
            pipe.read_exact(&mut first).await.unwrap();
            let strays = Strays::marked("MARKER_FOR_TEST", &marker);
            match dropped {
                true => drop(strays),
                false => assert!(strays.ended().await.is_some_and(|ended| ended >= 4)),
            }
            let rest = tokio::time::timeout(Duration::from_secs(60), pipe.read_u8());
            rest.await.unwrap().unwrap_err();
            child.wait().await.unwrap();
            assert_eq!(bystander.try_wait().unwrap(), None);
            bystander.kill().await.unwrap();
        }
    }
}
