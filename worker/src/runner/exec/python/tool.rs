//! Runs what makes an environment: as programs run here, since packages bring code of their own. Its output is the
//! attempt's log, and while it works the attempt counts as alive.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncRead;

use crate::outbox::{Level, Reporter};
use crate::runner::Host;
use crate::runner::exec::command::{OF_PYTHON, bare, restrain};
use crate::runner::exec::lines::{EndOfLine, Lines};
use crate::runner::exec::loose::uncoloured;
use crate::runner::exec::meter::Meter;
use crate::runner::exec::output::rest;
use crate::runner::exec::process_group::ProcessGroup;
use crate::runner::exec::strays::{Strays, TOKEN};

/// Longest that one step may take: the largest environments are downloaded and unpacked in minutes.
pub(super) const MOST: Duration = Duration::from_secs(3_600);
/// While a tool works, that it goes on is a sign of life.
pub(super) const SIGN_EVERY: Duration = Duration::from_secs(1);
/// Lines of one attempt's tools that its log keeps: what is said of some hundred packages.
const MAX_LOGGED: usize = 2_000;
/// Last lines of a pipe that are kept for whoever asked, or for the error.
const MAX_LAST: usize = 40;
/// Bytes of one line.
const MAX_LINE: usize = 16 * 1024;

/// Why a tool has not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// It cannot be started.
    Start(io::Error),
    /// The attempt is to stop.
    Stopped,
    /// It has reached a limit, which the text names.
    Limit(String),
    Wait(io::Error),
}

/// How a tool has ended, with the last lines that it has said.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<String>,
    pub(super) errors: Vec<String>,
}

/// Whether the log has what a tool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hear {
    Aloud,
    Silently,
}

/// Starts the tools of one attempt.
pub(super) struct Tools<'a> {
    reporter: &'a Reporter,
    host: &'a Host,
    /// The program's, secrets included.
    variables: &'a [(String, String)],
    logged: Arc<AtomicUsize>,
}

impl<'a> Tools<'a> {
    pub(super) fn new(
        reporter: &'a Reporter,
        host: &'a Host,
        variables: &'a [(String, String)],
    ) -> Self {
        Self {
            reporter,
            host,
            variables,
            logged: Arc::default(),
        }
    }

    pub(super) fn info(&self, text: &str) {
        self.reporter.info(text);
    }

    /// A variable as programs see it here.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        let user = self.host.rules.user().into_iter();
        let user = user.flat_map(|user| user.environment());
        let passed = self.host.rules.environment().into_iter();
        let own = self.variables.iter();
        passed
            .chain(user.map(|(known, value)| (known.into(), value)))
            .chain(own.map(|(known, value)| (known.into(), value.into())))
            // The last one wins.
            .rfind(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Runs a tool in a folder to its end. `more`: variables that those of the program win over.
    pub(super) async fn run(
        &self,
        words: &[OsString],
        folder: Option<&Path>,
        more: &[(&str, PathBuf)],
        hear: Hear,
    ) -> Result<Ran, Broken> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let mut command = bare(self.host, &words[0]);
        command
            .args(&words[1..])
            .envs(more.iter().map(|(name, value)| (name, value)))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env(TOKEN, &token);
        // It is about another environment than the one in which the worker was started.
        for name in OF_PYTHON {
            command.env_remove(name);
        }
        // A setting of a person would install beside the environment.
        command.env("PIP_USER", "0");
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        restrain(&mut command, self.host);
        let mut child = command.spawn().map_err(Broken::Start)?;
        // Dropped in the other order: whoever has left the group is looked for once it is gone.
        let strays = Strays::marked(TOKEN, &token).of(self.host.rules.user());
        let mut group = ProcessGroup::of(&child, &self.host.watchdog);
        if let Some(user) = self.host.rules.user() {
            user.own_pipes(&child);
        }
        let output = child.stdout.take().map(|pipe| self.follow(pipe, hear));
        let errors = child.stderr.take().map(|pipe| self.follow(pipe, hear));
        let (mut output, mut errors) = (output.map(tokio::spawn), errors.map(tokio::spawn));
        let limits = self.host.rules.limits();
        let ended = {
            let mut ending = std::pin::pin!(async {
                tokio::select! {
                    status = group.wait(&mut child) => status.map_err(Broken::Wait),
                    () = self.reporter.stop.requested() => Err(Broken::Stopped),
                    exceeded = limits.exceeded(&strays) => Err(Broken::Limit(exceeded.setting())),
                    () = tokio::time::sleep(MOST) => Err(Broken::Limit(format!(
                        "{} s, which is as long as it may take",
                        MOST.as_secs()
                    ))),
                }
            });
            loop {
                tokio::select! {
                    ended = &mut ending => break ended,
                    () = tokio::time::sleep(SIGN_EVERY) => self.reporter.activity.sign(),
                }
            }
        };
        if ended.is_err() {
            // What it has made is thrown away: nothing is to be saved.
            group.signal(libc::SIGKILL);
            let _ = group.wait(&mut child).await;
        }
        strays.end(self.reporter).await;
        let said = |lines: Option<Vec<String>>| lines.unwrap_or_default();
        let output = said(rest(output.as_mut(), || false).await);
        let errors = said(rest(errors.as_mut(), || false).await);
        ended.map(|status| Ran {
            status,
            output,
            errors,
        })
    }

    /// Logs what a pipe says; gives its last lines.
    fn follow(
        &self,
        pipe: impl AsyncRead + Unpin + Send + 'static,
        hear: Hear,
    ) -> impl Future<Output = Vec<String>> + Send + 'static {
        let (reporter, logged) = (self.reporter.clone(), self.logged.clone());
        let most = self.host.log_lines_per_second;
        async move {
            let mut lines = Lines::new(pipe, MAX_LINE, true);
            let (mut meter, mut last) = (Meter::new(most), VecDeque::new());
            while let Some(line) = lines.next().await {
                let text = uncoloured(&line.text).trim_end().to_owned();
                // What is drawn over is a progress bar.
                if text.is_empty() || line.end == EndOfLine::Return {
                    continue;
                }
                if hear == Hear::Aloud {
                    match logged.fetch_add(1, Ordering::Relaxed) {
                        before if before < MAX_LOGGED => {
                            meter.line(&reporter, Level::Info, &text);
                        }
                        MAX_LOGGED => reporter.warn(&format!(
                            "what else is said while the environment is made is left out: more than {MAX_LOGGED} lines"
                        )),
                        _ => {}
                    }
                }
                if last.len() == MAX_LAST {
                    last.pop_front();
                }
                last.push_back(text);
            }
            meter.end(&reporter);
            last.into()
        }
    }
}
