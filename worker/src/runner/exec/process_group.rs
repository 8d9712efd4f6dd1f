//! Process groups of programs: none outlives its attempt, nor its worker.
//!
//! A worker that is killed kills nothing itself. Its watchdog does, one `sh` beside it that is told of
//! every group: once the socket on which it is told closes, and only this worker has the other end, it
//! kills the groups that are left, and then, where the system shows the environment of processes (Linux), whatever
//! has left its group (`setsid`) and still has this worker's mark.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libc::pid_t;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// A process that just becomes another program has no environment to see for a moment: one look does not find it.
/// Reads `+ GROUP` and `- GROUP`, one a line. A terminal's Ctrl-C or a stop's SIGTERM is not for it.
const SCRIPT: &str = r#"trap '' HUP INT QUIT TERM
groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) case $groups in *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;; esac ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
[ -n "$1" ] || exit
missed=0
for round in 1 2 3 4 5 6 7 8; do
  found=$(grep -ls -- "$1" /proc/[0-9]*/environ)
  if [ -n "$found" ]; then
    missed=0
    for file in $found; do kill -s KILL "$(basename "${file%/environ}")"; done
  else
    missed=$((missed + 1))
    [ $missed -lt 3 ] || exit
  fi
  sleep 0.1
done"#;

/// Kills what the programs of a killed worker leave behind. Started with the first program.
#[derive(Debug, Default)]
pub(crate) struct Watchdog(Mutex<Watch>);

#[derive(Debug)]
struct Watch {
    /// What the programs of this worker have in their environment.
    marker: String,
    groups: BTreeSet<pid_t>,
    process: Option<Process>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            marker: uuid::Uuid::new_v4().simple().to_string(),
            groups: BTreeSet::new(),
            process: None,
        }
    }
}

#[derive(Debug)]
struct Process {
    /// Closing it is the watchdog's order to kill.
    told: UnixStream,
    child: Child,
}

impl Process {
    fn start(marker: &str) -> io::Result<Self> {
        let (told, hears) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(format!("{}={marker}", Watchdog::MARKER))
            .stdin(OwnedFd::from(hears))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { told, child })
    }

    /// One that does not read fast enough is as bad as none: nothing here waits for it.
    fn tell(&self, sign: char, group: pid_t) -> io::Result<()> {
        let line = format!("{sign} {group}\n");
        match (&self.told).write(line.as_bytes())? {
            written if written == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Watchdog {
    /// Each change of what is locked is whole, whatever panics.
    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The variable that marks this worker's programs.
    pub(super) const MARKER: &'static str = "TRAINYARD_WATCHDOG";

    pub(super) fn marker(&self) -> String {
        self.lock().marker.clone()
    }

    /// Whether there is a watchdog; starts it where there is none.
    pub(super) fn is_there(&self) -> bool {
        let mut watch = self.lock();
        if watch.process.is_none() {
            watch.restart();
        }
        watch.process.is_some()
    }
}

impl Watch {
    fn note(&mut self, group: pid_t) {
        self.groups.insert(group);
        self.tell('+', group);
    }

    fn forget(&mut self, group: pid_t) {
        self.groups.remove(&group);
        self.tell('-', group);
    }

    fn tell(&mut self, sign: char, group: pid_t) {
        let told = self.process.as_ref().map(|p| p.tell(sign, group));
        if !matches!(told, Some(Ok(()))) {
            self.restart();
        }
    }

    /// Begins anew with the groups that are there.
    fn restart(&mut self) {
        if let Some(mut old) = self.process.take() {
            // Before its socket closes, or it would kill what lives.
            if let Err(error) = old.child.start_kill() {
                tracing::debug!(%error, "the old watchdog is gone already");
            }
        }
        let started = Process::start(&self.marker).and_then(|process| {
            let mut groups = self.groups.iter();
            groups.try_for_each(|group| process.tell('+', *group))?;
            Ok(process)
        });
        match started {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                tracing::warn!(%error, "no watchdog: what programs start outlives a worker that is killed");
            }
        }
    }
}

/// A program's process group; killed with its attempt, however that ends, and with the worker.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    /// Until it has been killed for good.
    leader: Option<pid_t>,
    /// Readable once the program has ended. `None` where the system has no such thing.
    ended: Option<AsyncFd<OwnedFd>>,
    watchdog: Arc<Watchdog>,
}

impl ProcessGroup {
    /// The group of a program that was started as its leader and has not been waited for.
    pub(super) fn of(child: &Child, watchdog: &Arc<Watchdog>) -> Self {
        let leader = child.id().and_then(|id| pid_t::try_from(id).ok());
        if let Some(leader) = leader {
            watchdog.lock().note(leader);
        }
        Self {
            leader,
            ended: leader.and_then(|leader| end_of(leader).ok()),
            watchdog: watchdog.clone(),
        }
    }

    #[allow(unsafe_code)]
    pub(super) fn signal(&self, signal: libc::c_int) {
        let Some(leader) = self.leader else {
            return;
        };
        // SAFETY: a plain system call without pointers. The group was made for this program alone;
        // if it has no members left the call fails, which is what is wanted then.
        unsafe {
            libc::kill(-leader, signal);
        }
    }

    /// Waits for the program's end and kills whatever it has left behind in its group.
    pub(super) async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        if let Some(ended) = &self.ended {
            // As long as the program is not waited for, nobody else can get its group's number.
            let _ = ended.readable().await?;
            self.kill();
            return child.wait().await;
        }
        let status = child.wait().await;
        // Numbers go round: it takes thousands of new processes until one has this number.
        self.kill();
        status
    }

    fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(leader) = self.leader.take() {
            self.watchdog.lock().forget(leader);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells when a child has ended, without waiting for it as its parent.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn end_of(child: pid_t) -> io::Result<AsyncFd<OwnedFd>> {
    use std::os::fd::{FromRawFd as _, RawFd};
    // SAFETY: a plain system call without pointers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this call alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: the descriptor is owned by what is made of it, and is never another one.
    let ended =
        unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) };
    ended.map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn end_of(_: pid_t) -> io::Result<AsyncFd<OwnedFd>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A shell with a child of its own. The pipe closes when nobody has it any more, that child neither.
    async fn family(
        watchdog: &Arc<Watchdog>,
        script: &str,
    ) -> (Child, ProcessGroup, impl Future<Output = ()>) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let group = ProcessGroup::of(&child, watchdog);
        let mut pipe = child.stdout.take().unwrap();
        let mut first = [0; 8];
        pipe.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"started\n");
        let closed = async move {
            let rest = tokio::time::timeout(Duration::from_secs(60), pipe.read_u8());
            let error = rest.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        };
        (child, group, closed)
    }

    const STAYS: &str = "sleep 1000 & echo started; wait";

    #[tokio::test]
    async fn a_group_goes_with_its_attempt_and_with_its_worker() {
        for worker_is_killed in [false, true] {
            let watchdog = Arc::new(Watchdog::default());
            let (mut child, group, closed) = family(&watchdog, STAYS).await;
            if worker_is_killed {
                // What the kernel does then.
                drop(watchdog.lock().process.take());
            } else {
                drop(group);
            }
            closed.await;
            child.wait().await.unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_has_left_its_group_goes_with_its_worker() {
        let watchdog = Arc::new(Watchdog::default());
        let mut child = Command::new("sh")
            .args(["-c", "setsid sleep 1000 & echo started"])
            .env(Watchdog::MARKER, watchdog.marker())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        assert!(watchdog.is_there());
        let mut pipe = child.stdout.take().unwrap();
        let mut first = [0; 8];
        pipe.read_exact(&mut first).await.unwrap();
        child.wait().await.unwrap();
        drop(watchdog.lock().process.take());
        let rest = tokio::time::timeout(Duration::from_secs(60), pipe.read_u8());
        rest.await.unwrap().unwrap_err();
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_goes_with_it() {
        let watchdog = Arc::new(Watchdog::default());
        let script = "sleep 1000 & echo started; exit 3";
        let (mut child, mut group, closed) = family(&watchdog, script).await;
        let status = group.wait(&mut child).await.unwrap();
        assert_eq!(status.code(), Some(3));
        closed.await;
        assert!(watchdog.lock().groups.is_empty());
    }

    #[tokio::test]
    async fn a_watchdog_that_was_killed_is_replaced_and_told_of_every_group_but_those_that_ended() {
        let watchdog = Arc::new(Watchdog::default());
        let (mut first, _group, first_closed) = family(&watchdog, STAYS).await;
        let (mut ended, mut group, _) = family(&watchdog, "echo started").await;
        group.wait(&mut ended).await.unwrap();
        {
            let mut old = watchdog.lock().process.take().unwrap();
            old.child.start_kill().unwrap();
            old.child.wait().await.unwrap();
            watchdog.lock().process = Some(old);
        }
        let (mut second, _group, second_closed) = family(&watchdog, STAYS).await;
        assert_eq!(watchdog.lock().groups.len(), 2);
        drop(watchdog.lock().process.take());
        first_closed.await;
        second_closed.await;
        first.wait().await.unwrap();
        second.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_group_that_has_ended_is_not_killed_later() {
        let watchdog = Arc::new(Watchdog::default());
        let (mut child, mut group, _) = family(&watchdog, "echo started").await;
        let number = group.leader.unwrap();
        group.wait(&mut child).await.unwrap();
        // Whoever has the number by now is not this worker's: the script tells whom it would kill.
        let told = format!("+ {number}\n+ 7\n+ 77\n- {number}\n+ 777\n- 7\n");
        let script = SCRIPT.replace("kill -s KILL -- \"-$group\"", "echo $group");
        let mut sh = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = sh.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut pipe, told.as_bytes())
            .await
            .unwrap();
        drop(pipe);
        let output = sh.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "77\n777\n");
    }
}
