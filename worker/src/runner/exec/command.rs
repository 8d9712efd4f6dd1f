//! How a program is started: its arguments, its environment, its pipes.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use trainyard_common::spec::EntrypointSpec;

use super::process_group::Watchdog;
use crate::devices::VISIBLE;
use crate::runner::{Host, Task};

/// Python writes its lines at once with it, instead of when it ends.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// The program of a trial, not started yet, with a process group of its own. `gang`: what its ranks find each other
/// by; `variables`: those of the spec; `working`: where it starts. Of the worker's environment it sees what
/// [`variables`](super::variables) says. What the spec says wins over all but Trainyard's own variables.
pub(super) fn command(
    task: &Task,
    host: &Host,
    entrypoint: &EntrypointSpec,
    program: &str,
    gang: Vec<(&'static str, String)>,
    variables: Vec<(String, String)>,
    working: Option<&Path>,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(&entrypoint.command[1..])
        .env_clear()
        .env(UNBUFFERED, "1")
        .envs(host.rules.environment())
        .envs(
            host.rules
                .user()
                .into_iter()
                .flat_map(|user| user.environment()),
        )
        .envs(gang)
        .envs(visible(task, host).map(|gpus| (VISIBLE, gpus)))
        .envs(variables)
        .envs(environment(task))
        .env(Watchdog::MARKER, host.watchdog.marker())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = host.rules.user() {
        // Its other groups are the worker's, and are left behind.
        command.uid(user.uid).gid(user.gid);
    }
    if let Some(directory) = working {
        command.current_dir(directory);
    }
    command
}

/// A killed worker's programs would train on beside their successors on other workers: where there is no
/// watchdog, the kernel kills at least the program itself. Not otherwise, since a worker that is to do
/// something between fork and exec has to be copied for that, page table and all.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn die_with_the_worker(command: &mut Command) {
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
pub(super) fn die_with_the_worker(_: &mut Command) {}

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
