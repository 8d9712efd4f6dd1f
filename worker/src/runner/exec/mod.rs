//! Runs a trial that is a program: its environment, its output, its end.
//!
//! The program has a process group of its own, so that stopping it stops whatever it started. What its lines say is
//! decided in [`report`] and [`said`], what they count as in [`count`]; [`telling`] passes it on.

#[cfg(test)]
mod artifact_tests;
mod artifacts;
mod channel;
#[cfg(test)]
mod checkpoint_tests;
mod checkpoints;
mod code;
#[cfg(test)]
mod code_tests;
mod command;
mod count;
mod fit;
mod gang;
mod launcher;
mod limits;
mod lines;
mod loose;
mod meter;
mod moving;
mod output;
mod process_group;
mod python;
mod report;
mod restoring;
mod rules;
mod said;
#[cfg(test)]
mod secret_tests;
mod secrets;
mod status;
mod stopping;
mod strays;
mod take_over;
mod telling;
#[cfg(test)]
mod tests;
mod together;
mod variables;

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;

use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use trainyard_common::spec::EntrypointSpec;
use trainyard_proto::v1::{Started, report::Body};

use super::out_of_memory::OomKills;
use super::{Host, Task, out_of_memory};
use crate::attempt::{AttemptKey, End, Mask};
use crate::outbox::Reporter;
use channel::Channel;
use checkpoints::ProgramCheckpoints;
use code::Code;
use command::{With, command, restrain};
use gang::Gang;
use output::{follow_errors, follow_output, rest};
use process_group::ProcessGroup;
use python::{PATH, Python};
use secrets::Filled;
use status::StatusServer;
use stopping::{Ended, Stopping};
use strays::{Strays, TOKEN};
use telling::Telling;
use together::Together;

pub(super) use launcher::Launched;
pub(super) use process_group::Watchdog;
pub(crate) use rules::Rules;

/// By this exit code (`EX_CONFIG` of sysexits.h) a program says that its configuration cannot be.
const EXIT_INFEASIBLE: i32 = 78;

/// Gives the program what it goes on from, runs it to its end, and waits for its checkpoints.
pub(super) async fn run(task: &Task, reporter: &Reporter, host: &Arc<Host>) -> End {
    // Whoever has placed it here: the coordinator may be an old one, or not the one it should be.
    if let Some(why) = host.rules.refusal() {
        return End::error(why, 0);
    }
    if let Some(leader) = launcher::leader(task) {
        return hold(task, reporter, host, leader).await;
    }
    let leading = host.launched.lead(&reporter.key);
    let end = run_and_save(task, reporter, host).await;
    leading.ended(&end);
    end
}

/// Of a rank whose slot another rank's program has: it meets the others as all do, and ends with the program.
async fn hold(task: &Task, reporter: &Reporter, host: &Arc<Host>, leader: u32) -> End {
    let led = host.launched.of(AttemptKey {
        rank: leader,
        ..reporter.key.clone()
    });
    let agreed = async {
        let together = Together::meet(task, reporter, host).await?;
        together.all_prepared(reporter).await?;
        restoring::agree(task, reporter, host).await?;
        Gang::meet(task, reporter, host).await
    };
    match agreed.await {
        Ok(_gang) => launcher::hold(&led, leader, reporter).await,
        Err(end) => end,
    }
}

async fn run_and_save(task: &Task, reporter: &Reporter, host: &Arc<Host>) -> End {
    let together = match Together::meet(task, reporter, host).await {
        Ok(together) => together,
        Err(end) => return end,
    };
    let code = match Code::prepare(task, reporter, host).await {
        Ok(code) => code,
        Err(end) => {
            together.leave().await;
            return end;
        }
    };
    let mut end = run_in(task, reporter, host, &code, together).await;
    // The program's last words, its files' names, and what makes its environment may tell what it is not to tell: before
    // they are cut.
    end.error = reporter.masked(&end.error).into_owned();
    code.remove().await;
    end
}

/// The same in the folder in which the program starts.
async fn run_in(
    task: &Task,
    reporter: &Reporter,
    host: &Arc<Host>,
    code: &Code,
    together: Together,
) -> End {
    let ready = match Ready::of(task, reporter, host, code).await {
        Ok(ready) => ready,
        Err(end) => {
            together.leave().await;
            return end;
        }
    };
    if let Err(end) = together.all_prepared(reporter).await {
        return end;
    }
    let begun = ProgramCheckpoints::begin(task, reporter, host, code.working()).await;
    let checkpoints = match begun {
        Ok(checkpoints) => checkpoints,
        Err(end) => return end,
    };
    let end = run_program(task, reporter, host, &checkpoints, ready).await;
    match checkpoints.finish().await {
        Ok(()) => end,
        Err(why) => End::error(why, end.step),
    }
}

/// The program, if it can be started at all: the system's own words would blame the program for it.
fn startable(task: &Task) -> Result<(&EntrypointSpec, &str), Box<End>> {
    let Some(entrypoint) = &task.spec.job.entrypoint else {
        return Err(Box::new(End::error("the spec has no `entrypoint`", 0)));
    };
    let Some(program) = entrypoint.command.first() else {
        let why = "entrypoint.command is empty; expected a program and its arguments";
        return Err(Box::new(End::error(why, 0)));
    };
    match fit::unfit(entrypoint, &task.spec.params) {
        Some(why) => Err(Box::new(End::infeasible(why, 0))),
        None => Ok((entrypoint, program)),
    }
}

/// A program with all that it needs to start.
struct Ready<'a> {
    entrypoint: &'a EntrypointSpec,
    program: &'a str,
    code: &'a Code,
    filled: Filled,
    python: Option<Python>,
}

impl<'a> Ready<'a> {
    /// Reads its secrets, and finds or makes its environment of Python.
    async fn of(
        task: &'a Task,
        reporter: &Reporter,
        host: &Arc<Host>,
        code: &'a Code,
    ) -> Result<Self, End> {
        let (entrypoint, program) = startable(task).map_err(|end| *end)?;
        let filled = secrets::fill(&entrypoint.environment, host.rules.secrets());
        let filled = filled.map_err(|why| End::error(why, 0))?;
        reporter.set_mask(Mask::of(filled.secrets.iter().map(String::as_str)));
        let python = Python::prepare(entrypoint, &filled, reporter, host, code).await?;
        Ok(Self {
            entrypoint,
            program,
            code,
            filled,
            python,
        })
    }

    /// The program, not started yet.
    fn command(&self, task: &Task, host: &Host, gang: &Gang) -> Command {
        let variables = self.filled.variables.clone();
        let own = variables.iter().find(|(name, _)| name == PATH);
        let path = match own {
            Some((_, path)) => Some(path.into()),
            None => host.rules.path(),
        };
        let python = self.python.as_ref();
        let with = With {
            gang: gang.environment(task),
            python: python.map_or_else(Vec::new, |python| python.environment(path)),
            variables,
            working: self.code.working(),
        };
        command(task, host, self.entrypoint, self.program, with)
    }
}

/// Runs the program to its end.
async fn run_program(
    task: &Task,
    reporter: &Reporter,
    host: &Arc<Host>,
    checkpoints: &ProgramCheckpoints,
    ready: Ready<'_>,
) -> End {
    let (entrypoint, program) = (ready.entrypoint, ready.program);
    let gang = match Gang::meet(task, reporter, host).await {
        Ok(gang) => gang,
        Err(end) => return end,
    };
    let oom_kills = OomKills::now();
    let telling = Arc::new(Telling::new(
        task,
        reporter,
        checkpoints,
        host.log_lines_per_second,
    ));
    let command = ready.command(task, host, &gang);
    let mut running = match Running::start(command, task, host, &telling).await {
        Ok(running) => running,
        Err(error) => return End::error(fit::cannot_start(program, &error), 0),
    };
    reporter.info(&format!("started `{}`", entrypoint.command.join(" ")));
    tell_started(reporter, checkpoints).await;
    let most = host.log_lines_per_second;
    let child = &mut running.child;
    let mut output = child
        .stdout
        .take()
        .map(|pipe| tokio::spawn(follow_output(pipe, reporter.clone(), telling.clone(), most)));
    let mut errors = child
        .stderr
        .take()
        .map(|pipe| tokio::spawn(follow_errors(pipe, reporter.clone(), most)));
    let stopping = Stopping {
        reporter,
        telling: &telling,
        grace: entrypoint.stop_grace(),
        limits: host.rules.limits(),
        strays: &running.strays,
    };
    let ended = stopping.wait(child, &mut running.group).await;
    telling.program_ends();
    running.strays.end(reporter).await;
    running.hear_out(&telling, output.as_mut()).await;
    let last_error = rest(errors.as_mut(), || false).await.unwrap_or_default();
    let (step, infeasible) = telling.end().await;
    let said = Said {
        program,
        last_error: &last_error,
        infeasible,
        is_reached: telling.is_reached(),
    };
    said.end(ended, oom_kills, &host.rules, step)
}

async fn tell_started(reporter: &Reporter, checkpoints: &ProgramCheckpoints) {
    if reporter.key.rank == 0 {
        let started = Started {
            from_step: checkpoints.restored().map_or(0, |restored| restored.step),
            ..Started::default()
        };
        reporter.report(Body::Started(started)).await;
    }
}

/// What a program has said until its end.
struct Said<'a> {
    program: &'a str,
    last_error: &'a str,
    infeasible: Option<String>,
    /// It has reported as far as it was to train.
    is_reached: bool,
}

impl Said<'_> {
    /// What it means that it ended like this.
    fn end(self, ended: Ended, before: OomKills, rules: &Rules, step: u64) -> End {
        if let Some(exceeded) = ended.exceeded {
            return exceeded.end(step);
        }
        match (ended.status, ended.stop) {
            (_, Some(stop)) => End::stopped(stop, step),
            // However it ended: it has done what it was to do.
            (Ok(_), None) if self.is_reached => End::paused(step),
            (Ok(_), None) if let Some(why) = self.infeasible => End::infeasible(why, step),
            (Ok(status), None) if status.success() => End::completed(step),
            (Ok(status), None) => {
                let lacking = rules.lacking(self.last_error);
                failed(status, before, self.last_error, lacking, step)
            }
            (Err(error), None) => {
                let program = self.program;
                End::error(format!("cannot wait for `{program}`: {error}"), step)
            }
        }
    }
}

/// A program that runs, and what ends with it. In this order: what it leaves behind is looked for once its group is
/// gone.
struct Running {
    child: Child,
    group: ProcessGroup,
    strays: Strays,
    channel: Option<Channel>,
    status_server: Option<StatusServer>,
}

impl Running {
    async fn start(
        mut command: Command,
        task: &Task,
        host: &Host,
        telling: &Arc<Telling>,
    ) -> std::io::Result<Self> {
        // Of this attempt alone: it opens the channel, and whatever the program leaves behind is found by it.
        let token = uuid::Uuid::new_v4().simple().to_string();
        let user = host.rules.user().map(|user| &**user);
        let opened = match &host.scratch {
            Ok(scratch) => Channel::open(task, telling, &token, scratch, user),
            Err(why) => Err(std::io::Error::other(why.clone())),
        };
        let channel = match opened {
            Ok(channel) => Some(channel),
            Err(error) => {
                telling.reporter.warn(&format!(
                    "no channel for the program, which reports on standard output: {error}"
                ));
                None
            }
        };
        let status_server = match &channel {
            Some(channel) => serve_status(task, telling, channel, &token).await,
            None => None,
        };
        command.env(TOKEN, &token);
        command.envs(status_server.iter().flat_map(StatusServer::environment));
        command.envs(telling.checkpoints.environment());
        command.envs(channel.iter().map(Channel::environment));
        restrain(&mut command, host);
        let child = command.spawn()?;
        if let Some(user) = host.rules.user() {
            user.own_pipes(&child);
        }
        Ok(Self {
            group: ProcessGroup::of(&child, &host.watchdog),
            child,
            strays: Strays::marked(TOKEN, &token).of(host.rules.user()),
            channel,
            status_server,
        })
    }
}

impl Running {
    /// Reads what the program has said before its end, as long as that takes where it is the worker that is slow.
    async fn hear_out(&mut self, telling: &Telling, output: Option<&mut JoinHandle<()>>) {
        let is_busy = || telling.is_busy();
        if rest(output, is_busy).await.is_none() {
            telling.reporter.warn(
                "standard output is held open by what the program has started: what it still prints is not read",
            );
        }
        rest(self.channel.as_mut().map(Channel::close), is_busy).await;
        let status_server = self.status_server.as_mut();
        rest(status_server.map(StatusServer::close), is_busy).await;
    }
}

/// The endpoint for libraries that report by themselves: of rank 0, whose reports count, unless the spec says that
/// they report elsewhere.
async fn serve_status(
    task: &Task,
    telling: &Arc<Telling>,
    channel: &Channel,
    token: &str,
) -> Option<StatusServer> {
    let elsewhere = |program: &EntrypointSpec| program.environment.contains_key(status::URL);
    if task.assignment.rank != 0 || task.spec.job.entrypoint.as_ref().is_some_and(elsewhere) {
        return None;
    }
    let opened = async {
        let token_file = channel.token_file(token)?;
        StatusServer::open(telling, token, token_file).await
    };
    match opened.await {
        Ok(server) => Some(server),
        Err(error) => {
            telling.reporter.warn(&format!(
                "what reports by itself (Hugging Face Transformers) is not heard: {error}"
            ));
            None
        }
    }
}

/// `lacking`: what it may lack, with the way out.
fn failed(
    status: ExitStatus,
    before: OomKills,
    last_error: &str,
    lacking: Option<String>,
    step: u64,
) -> End {
    let how = describe(status, last_error);
    let how = match lacking {
        Some(hint) => format!("{how} ({hint})"),
        None => how,
    };
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
