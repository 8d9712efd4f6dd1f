//! How a program is started: its arguments, its environment, its pipes.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use trainyard_common::spec::EntrypointSpec;

use super::limits::limit_files;
use super::process_group::Watchdog;
use crate::devices::VISIBLE;
use crate::runner::{Host, Task};

/// Python writes its lines at once with it, instead of when it ends.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// Variables that say in which environment of Python something runs.
pub(super) const OF_PYTHON: [&str; 4] = ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"];

/// What the program of a trial is started with.
pub(super) struct With<'a> {
    /// What its ranks find each other by.
    pub(super) gang: Vec<(&'static str, String)>,
    /// Those of the spec.
    pub(super) variables: Vec<(String, String)>,
    /// What leads to the environment of Python that the spec asks for, if it does.
    pub(super) python: Vec<(&'static str, OsString)>,
    /// Where it starts.
    pub(super) working: Option<&'a Path>,
}

/// The program of a trial, not started yet. What the spec says wins over all but Trainyard's own variables.
pub(super) fn command(
    task: &Task,
    host: &Host,
    entrypoint: &EntrypointSpec,
    program: &str,
    with: With<'_>,
) -> Command {
    let mut command = bare(host, program);
    if !with.python.is_empty() {
        // That of another interpreter.
        command.env_remove("PYTHONHOME");
    }
    command
        .args(&entrypoint.command[1..])
        .envs(with.gang)
        .envs(visible(task, host).map(|gpus| (VISIBLE, gpus)))
        .envs(with.variables)
        .envs(with.python)
        .envs(environment(task));
    if let Some(directory) = with.working {
        command.current_dir(directory);
    }
    command
}

/// Something that runs here as programs do: by their user, with a process group of its own, and of the worker's
/// environment with what [`variables`](super::variables) says.
pub(super) fn bare(host: &Host, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(UNBUFFERED, "1")
        .envs(host.rules.environment())
        .envs(
            host.rules
                .user()
                .into_iter()
                .flat_map(|user| user.environment()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = host.rules.user() {
        // Its other groups are the worker's, and are left behind.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// The last thing before it is started: what holds it, whatever its variables say.
pub(super) fn restrain(command: &mut Command, host: &Host) {
    command.env(Watchdog::MARKER, host.watchdog.marker());
    keep_inherited();
    if let Some(files) = host.rules.limits().open_files {
        limit_files(command, files);
    }
    if host.rules.user().is_some() {
        gain_nothing(command);
    }
    if !host.watchdog.is_there() {
        die_with_the_worker(command);
    }
}

/// Keeps from programs what this process was started with beside its three pipes: what it opens itself it opens so that
/// none of them has it.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn keep_inherited() {
    static KEPT: std::sync::Once = std::sync::Once::new();
    KEPT.call_once(|| {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: a plain system call without pointers; it closes nothing here, but in what is executed.
        let kept = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
        if kept != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "programs have the files that this worker was started with");
        }
    });
}

#[cfg(not(target_os = "linux"))]
fn keep_inherited() {}

/// A program that runs as another user stays that user: programs with more rights than whoever starts them, such as
/// `sudo`, have none of them. Not where it runs as the worker's user, whose means of starting containers may be such.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn gain_nothing(command: &mut Command) {
    let gain = || {
        // SAFETY: prctl is a plain system call, allowed between fork and exec; it takes no pointers.
        match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no locks.
    unsafe {
        command.pre_exec(gain);
    }
}

#[cfg(not(target_os = "linux"))]
fn gain_nothing(_: &mut Command) {}

/// A killed worker's programs would train on beside their successors on other workers: where there is no
/// watchdog, the kernel kills at least the program itself. Not otherwise, since a worker that is to do
/// something between fork and exec has to be copied for that, page table and all.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn die_with_the_worker(command: &mut Command) {
    let die = || {
        // SAFETY: prctl is a plain system call, allowed between fork and exec; it takes no pointers.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure allocates nothing and takes no locks.
    unsafe {
        command.pre_exec(die);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_the_worker(_: &mut Command) {}

/// The GPUs of the ranks that this worker runs, in their order: `LOCAL_RANK` says which is this rank's.
fn visible(task: &Task, host: &Host) -> Option<String> {
    let ranks = &task.assignment.ranks;
    let own = ranks.get(task.assignment.rank as usize)?;
    let here = ranks.iter().filter(|rank| rank.worker_id == own.worker_id);
    let slots: Vec<u32> = here.flat_map(|rank| rank.slots.iter().copied()).collect();
    host.devices.visible(&slots)
}

fn environment(task: &Task) -> Vec<(&'static str, String)> {
    let assignment = &task.assignment;
    let params = serde_json::Value::Object(task.spec.params.clone());
    let seed = task.spec.trial_seed;
    let hosts: Vec<&str> = assignment
        .ranks
        .iter()
        .map(|rank| {
            rank.collective_address
                .rsplit_once(':')
                .map_or("", |(host, _)| host)
        })
        .collect();
    let mut variables = vec![
        ("TRAINYARD_PARAMS", params.to_string()),
        ("TRAINYARD_JOB_ID", assignment.job_id.clone()),
        ("TRAINYARD_TRIAL_ID", assignment.trial_id.to_string()),
        ("TRAINYARD_ATTEMPT", assignment.attempt.to_string()),
        ("TRAINYARD_GENERATION", assignment.generation.to_string()),
        ("TRAINYARD_SEED", seed.to_string()),
        // NumPy and PyTorch take no more.
        ("TRAINYARD_SEED32", (seed & 0x7fff_ffff).to_string()),
        ("TRAINYARD_RANK", assignment.rank.to_string()),
        ("TRAINYARD_WORLD_SIZE", assignment.ranks.len().to_string()),
        ("TRAINYARD_RANK_HOSTS", hosts.join(",")),
    ];
    if let Some(epoch) = assignment.until_epoch {
        variables.push(("TRAINYARD_UNTIL_EPOCH", epoch.to_string()));
    }
    variables
}
