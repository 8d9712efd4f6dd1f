//! A cluster of real processes for tests: a coordinator, workers and the command line, each in its
//! own process, all in one temporary folder. Everything is killed when the sandbox is dropped.

pub mod coordinators;
pub mod namespace;
pub mod simulation;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How long any condition may take before a test gives up. Machines are shared and slow.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// The folder of this repository.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.to_owned(), Path::to_owned)
}

/// An example's path.
pub fn example(name: &str) -> String {
    repository()
        .join("examples")
        .join(name)
        .display()
        .to_string()
}

/// One of the three programs, as cargo has built it beside this test.
///
/// # Errors
/// When it was not built: `cargo build --workspace --bins` does.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test
        .ancestors()
        .nth(2)
        .context("a test lies in target/PROFILE/deps")?;
    let path = target.join(name);
    ensure!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins` first",
        path.display()
    );
    Ok(path)
}

/// Looks until `condition` gives a value.
///
/// # Errors
/// After [`PATIENCE`], naming `what` was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        ensure!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for {what}"
        );
        std::thread::sleep(POLL);
    }
}

/// A child process whose standard error goes to a file. Killed when dropped.
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // A group of its own, so that a shell's children go with it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Sends a signal to the process and what it has started.
    #[allow(unsafe_code)]
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let group = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: kill(2) takes any numbers; the child has not been waited for, so its id is its own.
        let answer = unsafe { libc::kill(-group, signal) };
        ensure!(
            answer == 0,
            "kill {}: {}",
            self.name,
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&format!("{name} to end"), || Ok(self.child.try_wait()?))
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(libc::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.log());
        }
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON, of a command that must have succeeded.
    pub fn json(&self) -> Result<Value> {
        ensure!(
            self.code == 0,
            "exit {}\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}", self.stdout))
    }
}

/// A folder with a coordinator's data, and the processes of one cluster.
pub struct Sandbox {
    folder: tempfile::TempDir,
    pub address: String,
}

impl Sandbox {
    /// An empty folder; nothing runs yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            address: String::new(),
        })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Starts the coordinator on the folder's data. The first start picks a port, later ones keep it.
    pub fn coordinator(&mut self, lease_ms: u32) -> Result<Process> {
        let port_file = self.path().join("port");
        let _ = fs::remove_file(&port_file);
        let listen = if self.address.is_empty() {
            "127.0.0.1:0"
        } else {
            &self.address
        };
        let mut command = Command::new(program("coordinator")?);
        command
            .args([
                "--listen",
                listen,
                "--heartbeat-ms",
                &(lease_ms / 5).to_string(),
            ])
            .args(["--worker-lease-ms", &lease_ms.to_string(), "--data-dir"])
            .arg(self.path().join("data"))
            .arg("--port-file")
            .arg(&port_file);
        let mut process = Process::spawn("coordinator", command, self.path())?;
        self.address = wait_for("the coordinator to listen", || {
            if let Some(status) = process.child.try_wait()? {
                bail!("the coordinator ended ({status}):\n{}", process.log());
            }
            Ok(fs::read_to_string(&port_file)
                .ok()
                .filter(|text| text.ends_with('\n')))
        })?
        .trim()
        .to_owned();
        Ok(process)
    }

    /// Starts a worker of so many slots, one thread each, that runs programs.
    pub fn worker(&self, name: &str, slots: u32) -> Result<Process> {
        self.worker_with(name, slots, &["--programs", "allow"], &[])
    }

    /// Starts a worker with further arguments and variables.
    pub fn worker_with(
        &self,
        name: &str,
        slots: u32,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let mut command = Command::new(program("worker")?);
        command
            .args(["--coordinator", &self.url(), "--slots", &slots.to_string()])
            .args(["--threads-per-slot", "1"])
            .args(arguments)
            .envs(environment.iter().copied());
        Process::spawn(name, command, self.path())
    }

    /// The same in a network namespace, where the coordinator has another address.
    pub fn worker_within(
        &self,
        within: &[&str],
        coordinator: &str,
        name: &str,
        slots: u32,
    ) -> Result<Process> {
        let (first, rest) = within.split_first().context("no command")?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .arg(program("worker")?)
            .args(["--coordinator", coordinator, "--slots", &slots.to_string()])
            .args(["--threads-per-slot", "1", "--programs", "allow"]);
        Process::spawn(name, command, self.path())
    }

    /// The same, but no file that it writes may grow beyond so many KiB: as on a full disk.
    pub fn limited_worker(&self, name: &str, kib: u32) -> Result<Process> {
        let mut command = Command::new("sh");
        let line = format!(
            // The log must stay writable, so the programs' messages go through a pipe.
            "(ulimit -f {}; exec {} --coordinator {} --slots 1 --threads-per-slot 1 --programs allow) 2>&1 | cat",
            kib * 2,
            program("worker")?.display(),
            self.url(),
        );
        command.args(["-c", &line]);
        Process::spawn(name, command, self.path())
    }

    /// The coordinator's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs `coordinatorctl` against this cluster, in the sandbox's folder.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Answer> {
        let output = Command::new(program("coordinatorctl")?)
            .args(arguments)
            .current_dir(self.path())
            .env("TRAINYARD_COORDINATOR", self.url())
            .stdin(Stdio::null())
            .output()?;
        Ok(Answer::from(&output))
    }

    /// The same with `--output json`, decoded; the command must succeed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.ctl(&[arguments, &["--output", "json"]].concat())?
            .json()
            .with_context(|| format!("coordinatorctl {}", arguments.join(" ")))
    }

    /// Starts `coordinatorctl` in the background.
    pub fn spawn_ctl(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(program("coordinatorctl")?);
        command
            .args(arguments)
            .current_dir(self.path())
            .env("TRAINYARD_COORDINATOR", self.url());
        Process::spawn(name, command, self.path())
    }

    /// Submits a job and returns its id.
    pub fn submit(&self, spec: &str, more: &[&str]) -> Result<String> {
        let answer = self.json(&[&["submit", spec], more].concat())?;
        Ok(answer["job_id"].as_str().context("no job_id")?.to_owned())
    }

    /// Waits until the job has ended well, and returns what `describe` says of it.
    pub fn completed(&self, job: &str) -> Result<Value> {
        wait_for(&format!("{job} to complete"), || {
            let described = self.json(&["describe", job])?;
            match described["job"]["state"].as_str() {
                Some("completed") => Ok(Some(described)),
                Some("failed" | "cancelled") => bail!("{job} ended otherwise: {described:#}"),
                _ => Ok(None),
            }
        })
    }

    /// The job's trials, in order.
    pub fn trials(&self, job: &str) -> Result<Vec<Value>> {
        let listed = self.json(&["trial", "list", job])?;
        Ok(listed["trials"].as_array().context("no trials")?.clone())
    }

    /// Bytes of the tensors of a trial's newest checkpoint.
    pub fn tensors(&self, job: &str, trial: u32) -> Result<Vec<u8>> {
        let folder = self.path().join(format!("{job}-{trial}-download"));
        let (trial, to) = (trial.to_string(), folder.display().to_string());
        let arguments = [
            "checkpoint",
            "download",
            job,
            "--trial",
            &trial,
            "--latest",
            "--to",
            &to,
        ];
        let answer = self.ctl(&arguments)?;
        ensure!(answer.code == 0, "download: {}", answer.stderr);
        let mut bytes = Vec::new();
        File::open(folder.join("model.safetensors"))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
