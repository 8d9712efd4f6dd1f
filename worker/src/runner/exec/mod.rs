//! Runs a trial that is a program: its environment, its output, its end.
//!
//! The program has a process group of its own, so that stopping it stops whatever it started. What
//! its lines mean is decided in [`report`]. Beside the variables that the spec documents, a
//! program gets `TRAINYARD_GENERATION` and, for the ranks of a gang, `TRAINYARD_RANK_HOSTS` (the hosts
//! of all ranks in order, separated by commas).

#[cfg(test)]
mod checkpoint_tests;
mod checkpoints;
mod command;
mod meter;
mod output;
mod process_group;
mod report;
mod restoring;
mod take_over;
#[cfg(test)]
mod tests;

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::task::JoinHandle;
use trainyard_proto::v1::{Started, report::Body};

use super::out_of_memory::OomKills;
use super::{Host, Task, out_of_memory};
use crate::attempt::{End, Stop, StopSignal};
use crate::outbox::Reporter;
use checkpoints::ProgramCheckpoints;
use command::{command, die_with_the_worker};
use output::{Followed, follow_errors, follow_output};
use process_group::ProcessGroup;

pub(super) use process_group::Watchdog;

/// Between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A program that has reported the last epoch that it was to train gets so long to save what it wants
/// and to end by itself.
const UNTIL_GRACE: Duration = Duration::from_secs(10);
/// The same for a program whose end nobody waits for.
const ABANDON_GRACE: Duration = Duration::from_secs(1);
/// How long output may still come once the program has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// By this exit code (`EX_CONFIG` of sysexits.h) a program says that its configuration cannot be.
const EXIT_INFEASIBLE: i32 = 78;

/// Gives the program what it goes on from, runs it to its end, and waits for its checkpoints.
pub(super) async fn run(task: &Task, reporter: &Reporter, host: &Arc<Host>) -> End {
    let checkpoints = match ProgramCheckpoints::begin(task, reporter, host).await {
        Ok(checkpoints) => checkpoints,
        Err(end) => return end,
    };
    let end = run_program(task, reporter, host, &checkpoints).await;
    match checkpoints.finish().await {
        Ok(()) => end,
        Err(why) => End::error(why, end.step),
    }
}

/// Runs the program to its end.
async fn run_program(
    task: &Task,
    reporter: &Reporter,
    host: &Host,
    checkpoints: &ProgramCheckpoints,
) -> End {
    let Some(entrypoint) = &task.spec.job.entrypoint else {
        return End::error("the spec has no `entrypoint`", 0);
    };
    let Some(program) = entrypoint.command.first() else {
        return End::error(
            "entrypoint.command is empty; expected a program and its arguments",
            0,
        );
    };
    let oom_kills = OomKills::now();
    let mut command = command(task, &host.devices, entrypoint, program);
    command.envs(checkpoints.environment());
    if !host.watchdog.is_there() {
        die_with_the_worker(&mut command);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return End::error(format!("cannot start `{program}`: {error}"), 0),
    };
    let mut group = ProcessGroup::of(&child, &host.watchdog);
    reporter.info(&format!("started `{}`", entrypoint.command.join(" ")));
    if reporter.key.rank == 0 {
        let from_step = checkpoints.restored().map_or(0, |restored| restored.step);
        let started = Started {
            from_step,
            ..Started::default()
        };
        reporter.report(Body::Started(started)).await;
    }
    let until = Until::of(task);
    let output = child.stdout.take().map(|pipe| {
        let checkpoints = checkpoints.clone();
        tokio::spawn(follow_output(
            pipe,
            reporter.clone(),
            until.clone(),
            checkpoints,
        ))
    });
    let errors = child
        .stderr
        .take()
        .map(|pipe| tokio::spawn(follow_errors(pipe, reporter.clone())));
    let (status, stopped) = wait(&mut child, &mut group, reporter, &until, checkpoints).await;
    let is_taking = || checkpoints.is_taking();
    let Followed { step, infeasible } = rest(output, is_taking).await.unwrap_or_default();
    let last_error = rest(errors, || false).await.unwrap_or_default();
    match (status, stopped) {
        (_, Some(stop)) => End::stopped(stop, step),
        // However it ended: it has done what it was to do.
        (Ok(_), None) if until.is_reached() => End::paused(step),
        (Ok(_), None) if let Some(why) = infeasible => End::infeasible(why, step),
        (Ok(status), None) if status.success() => End::completed(step),
        (Ok(status), None) => failed(status, oom_kills, &last_error, step),
        (Err(error), None) => End::error(format!("cannot wait for `{program}`: {error}"), step),
    }
}

/// What it means that a program ended like this.
fn failed(status: ExitStatus, before: OomKills, last_error: &str, step: u64) -> End {
    let how = describe(status, last_error);
    if status.code() == Some(EXIT_INFEASIBLE) {
        End::infeasible(how, step)
    } else if before.explain(status.code(), status.signal()) {
        End::out_of_memory(format!("{how}; the kernel killed it for its memory"), step)
    } else if out_of_memory::is_meant_by(last_error) {
        End::out_of_memory(how, step)
    } else {
        End::error(how, step)
    }
}

/// How far the program is to train, and whether it has reported that it did.
#[derive(Clone)]
struct Until {
    epoch: Option<u64>,
    reached: Arc<StopSignal>,
}

impl Until {
    fn of(task: &Task) -> Self {
        Self {
            epoch: task.assignment.until_epoch,
            reached: Arc::default(),
        }
    }

    fn told(&self, epoch: u64) {
        if self.epoch.is_some_and(|until| epoch >= until) {
            self.reached.request(Stop::Checkpoint);
        }
    }

    fn is_reached(&self) -> bool {
        self.reached.get().is_some()
    }

    /// Resolves once the program has had its time to end by itself.
    async fn overdue(&self) {
        self.reached.requested().await;
        tokio::time::sleep(UNTIL_GRACE).await;
    }
}

/// Waits for the program's end, or for being told to stop and then for its end.
async fn wait(
    child: &mut Child,
    group: &mut ProcessGroup,
    reporter: &Reporter,
    until: &Until,
    checkpoints: &ProgramCheckpoints,
) -> (std::io::Result<ExitStatus>, Option<Stop>) {
    tokio::select! {
        biased;
        status = group.wait(child) => return (status, None),
        () = reporter.stop.requested() => {}
        () = until.overdue() => {}
        () = checkpoints.failed() => {}
    }
    let why = match reporter.stop.get() {
        Some(_) => "told to stop",
        None if until.is_reached() => "it has trained as far as it was to",
        None => "a checkpoint could not be saved",
    };
    reporter.info(&format!("{why}: the program gets SIGTERM"));
    group.signal(libc::SIGTERM);
    // A program that is suspended gets it only once it goes on.
    group.signal(libc::SIGCONT);
    let abandoned = async {
        reporter.stop.reached(Stop::Abandoned).await;
        tokio::time::sleep(ABANDON_GRACE).await;
    };
    let ended = tokio::select! {
        status = group.wait(child) => Some(status),
        () = tokio::time::sleep(STOP_GRACE) => None,
        () = abandoned => None,
    };
    let status = match ended {
        Some(status) => status,
        None => kill(child, group, reporter).await,
    };
    (status, reporter.stop.get())
}

async fn kill(
    child: &mut Child,
    group: &mut ProcessGroup,
    reporter: &Reporter,
) -> std::io::Result<ExitStatus> {
    reporter.warn("the program did not end: SIGKILL");
    group.signal(libc::SIGKILL);
    group.wait(child).await
}

fn describe(status: ExitStatus, last_error: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit code {code}"),
        (None, Some(signal)) => format!("the program was killed by signal {signal}"),
        (None, None) => format!("the program ended with {status}"),
    };
    if last_error.is_empty() {
        how
    } else {
        format!("{how}; last line on standard error: {last_error}")
    }
}

/// What a follower found, within the grace, which begins anew as long as it is busy.
async fn rest<T>(follower: Option<JoinHandle<T>>, is_busy: impl Fn() -> bool) -> Option<T> {
    let mut follower = follower?;
    loop {
        match tokio::time::timeout(OUTPUT_GRACE, &mut follower).await {
            Ok(found) => return found.ok(),
            Err(_) if is_busy() => {}
            Err(_) => {
                follower.abort();
                return None;
            }
        }
    }
}
