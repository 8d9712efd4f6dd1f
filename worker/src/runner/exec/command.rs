//! How a program is started: its arguments, its environment, its pipes.

use std::process::Stdio;

use tokio::process::Command;
use trainyard_common::spec::EntrypointSpec;

use crate::devices::{Devices, VISIBLE};
use crate::runner::Task;

/// The program of a trial, not started yet, with a process group of its own.
pub(super) fn command(
    task: &Task,
    devices: &Devices,
    entrypoint: &EntrypointSpec,
    program: &str,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(&entrypoint.command[1..])
        .envs(&entrypoint.environment)
        .envs(environment(task, devices))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = &entrypoint.working_directory {
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

fn environment(task: &Task, devices: &Devices) -> Vec<(&'static str, String)> {
    let assignment = &task.assignment;
    let params = serde_json::Value::Object(task.spec.params.clone());
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
        ("TRAINYARD_SEED", task.spec.trial_seed.to_string()),
        ("TRAINYARD_RANK", assignment.rank.to_string()),
        ("TRAINYARD_WORLD_SIZE", assignment.ranks.len().to_string()),
        ("TRAINYARD_RANK_HOSTS", hosts.join(",")),
    ];
    let rank = assignment.ranks.get(assignment.rank as usize);
    if let Some(gpus) = rank.and_then(|rank| devices.visible(&rank.slots)) {
        variables.push((VISIBLE, gpus));
    }
    if let Some(epoch) = assignment.until_epoch {
        variables.push(("TRAINYARD_UNTIL_EPOCH", epoch.to_string()));
    }
    variables
}
