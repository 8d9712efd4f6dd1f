//! The environment of Python in which a program runs: one that is there, or one that is made from a list of packages
//! and kept.
//!
//! | file | owns |
//! |---|---|
//! | `kept` | the environments on this machine: who makes one, who uses one, which goes |
//! | `requirements` | what two environments have in common that are the same |
//! | `install` | how one is made, by uv or by pip |
//! | `tool` | what is run for it, as programs are |
//! | `said` | **PURE** what a tool has said last |

mod install;
mod kept;
mod requirements;
mod said;
#[cfg(test)]
mod tests;
mod tool;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trainyard_common::spec::{EntrypointSpec, PythonSpec};

use super::code::{Code, stopped};
use super::secrets::Filled;
use crate::attempt::End;
use crate::outbox::Reporter;
use crate::runner::Host;
use install::{Interpreter, Plan, Unmade, interpreter};
use kept::{InUse, Kept, Making, Turn};
use requirements::{Requirements, With, is_installer_s, key};
use tool::Tools;

/// How often is looked whether another attempt has made the environment.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where programs are looked for.
pub(super) const PATH: &str = "PATH";

/// The environment that a program gets; one that is kept stays while this lives.
#[derive(Debug)]
pub(super) struct Python {
    root: PathBuf,
    _in_use: Option<InUse>,
}

impl Python {
    /// Finds the environment or makes it; none, where none is asked for. `filled`: the program's variables.
    ///
    /// # Errors
    /// The attempt's end, where there is none.
    pub(super) async fn prepare(
        entrypoint: &EntrypointSpec,
        filled: &Filled,
        reporter: &Reporter,
        host: &Arc<Host>,
        code: &Code,
    ) -> Result<Option<Self>, End> {
        match &entrypoint.python {
            None => Ok(None),
            Some(PythonSpec {
                venv: Some(venv), ..
            }) => there(venv.clone(), host).await.map(Some),
            Some(PythonSpec {
                requirements: Some(file),
                ..
            }) => {
                let preparing = Preparing {
                    tools: Tools::new(reporter, host, &filled.variables),
                    bundle: entrypoint.bundle.as_deref(),
                    filled,
                    reporter,
                    host,
                    code,
                };
                preparing.made(file).await.map(Some)
            }
            // Whoever has sent this.
            Some(_) => Err(End::error(
                "entrypoint.python: neither `venv` nor `requirements` is given",
                0,
            )),
        }
    }

    /// What the program is told. `path`: where it would look for programs otherwise.
    pub(super) fn environment(&self, path: Option<OsString>) -> Vec<(&'static str, OsString)> {
        let mut paths = self.root.join("bin").into_os_string();
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            paths.push(":");
            paths.push(path);
        }
        vec![
            (PATH, paths),
            ("VIRTUAL_ENV", self.root.clone().into_os_string()),
        ]
    }
}

/// The environment at a path, which must be one, for the user of programs.
async fn there(venv: PathBuf, host: &Arc<Host>) -> Result<Python, End> {
    let found = as_programs(host, move || why_none(&venv).map_or(Ok(venv), Err)).await;
    match found {
        Ok(Ok(root)) => Ok(Python {
            root,
            _in_use: None,
        }),
        Ok(Err(why)) => Err(End::error(format!("entrypoint.python.venv: {why}"), 0)),
        Err(error) => Err(End::error(format!("entrypoint.python.venv: {error}"), 0)),
    }
}

/// Why there is no environment in a folder.
fn why_none(venv: &Path) -> Option<String> {
    let shown = venv.display();
    let python = venv.join("bin/python");
    let error = match python.metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return None,
        Ok(_) => {
            return Some(format!(
                "`{shown}` on this worker: its bin/python is no file that can be executed"
            ));
        }
        Err(error) => error,
    };
    let why = match (venv.metadata(), python.symlink_metadata()) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Ok(_)) => {
            format!("the interpreter that its bin/python leads to cannot be used: {error}")
        }
        (Ok(_), Err(_)) => {
            "it has no bin/python, so that it is no environment of Python".to_owned()
        }
    };
    Some(format!("`{shown}` on this worker: {why}"))
}

/// What it takes to make one.
struct Preparing<'a> {
    tools: Tools<'a>,
    filled: &'a Filled,
    reporter: &'a Reporter,
    host: &'a Arc<Host>,
    code: &'a Code,
    /// The digest of the code that was shipped.
    bundle: Option<&'a str>,
}

impl Preparing<'_> {
    /// The environment with these requirements, made by whoever needs it first.
    async fn made(&self, file: &Path) -> Result<Python, End> {
        let scratch = self.host.scratch.as_ref();
        let scratch = scratch.map_err(|error| End::error(error, 0))?;
        let kept = Kept::open(scratch.base(), self.host.rules.environments_bytes());
        let kept = kept.map_err(|error| unkept(&error))?;
        let requirements = self.read(file).await?;
        let interpreter = interpreter(&self.tools).await;
        let interpreter = interpreter.map_err(|unmade| self.end(unmade))?;
        let key = self.key(&requirements, &interpreter).await;
        loop {
            let (looks, of, user) = (kept.clone(), key.clone(), self.host.rules.user().cloned());
            let looking = blocking(move || looks.turn(&of, user.as_deref()));
            let turn = self.alive(looking).await;
            match turn.map_err(|error| unkept(&error))? {
                Turn::Ready(in_use) => {
                    return Ok(Python {
                        root: in_use.root().to_owned(),
                        _in_use: Some(in_use),
                    });
                }
                Turn::Make(making) => {
                    self.make(making, &interpreter, &requirements).await?;
                    let (makes, of) = (kept.clone(), key.clone());
                    self.alive(blocking(move || makes.make_room(&of))).await;
                }
                Turn::Wait => tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => self.reporter.activity.sign(),
                    () = self.reporter.stop.requested() => return Err(stopped(self.reporter)),
                },
            }
        }
    }

    async fn make(
        &self,
        making: Making,
        interpreter: &Interpreter,
        requirements: &Requirements,
    ) -> Result<(), End> {
        let (to, temporary) = (making.root(), making.temporary());
        let plan = Plan {
            interpreter,
            requirements,
            to: &to,
            temporary: &temporary,
            code: self.code.root(),
            user: self.host.rules.user().map(|user| &**user),
        };
        match plan.carry_out(&self.tools).await {
            Ok(()) => {
                let done = self.alive(blocking(move || making.done())).await;
                done.map_err(|error| unkept(&error))
            }
            Err(unmade) => {
                // What there is of it has many files.
                self.alive(blocking(move || drop(making))).await;
                Err(self.end(unmade))
            }
        }
    }

    /// Waits for work on the disk, which is a sign of life.
    async fn alive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(tool::SIGN_EVERY) => self.reporter.activity.sign(),
            }
        }
    }

    async fn read(&self, file: &Path) -> Result<Requirements, End> {
        let (path, place) = match self.code.root() {
            Some(root) if file.is_relative() => (root.join(file), "in the shipped folder"),
            _ => (file.to_owned(), "on this worker"),
        };
        let read = as_programs(self.host, move || Requirements::read(&path)).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        read.map_err(|why| failed(&format!("`{}` {place}: {why}", file.display())))
    }

    async fn key(&self, requirements: &Requirements, interpreter: &Interpreter) -> String {
        let passed = self.host.rules.environment().into_iter();
        let passed = passed.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut variables: Vec<(String, String)> = passed
            .chain(self.filled.variables.iter().cloned())
            .filter(|(name, _)| requirements.depends_on(name))
            .collect();
        for (_, value) in &mut variables {
            // Not even its digest stands in a path; with another value of it the packages are the same.
            if self.filled.secrets.contains(value) {
                "a secret".clone_into(value);
            }
        }
        variables.sort();
        let (mut requirements, interpreter) = (requirements.clone(), interpreter.text());
        let (user, bundle) = (
            self.host.rules.user().cloned(),
            self.bundle.map(str::to_owned),
        );
        blocking(move || {
            let of_installers = variables.iter().filter(|(name, _)| is_installer_s(name));
            of_installers.for_each(|(_, value)| requirements.may_name(value));
            let with = With {
                interpreter: &interpreter,
                user: user.map_or(0, |user| user.uid),
                variables: &variables,
                bundle: bundle.as_deref(),
            };
            key(&requirements, &with)
        })
        .await
    }

    fn end(&self, unmade: Unmade) -> End {
        match unmade {
            Unmade::Stopped => stopped(self.reporter),
            Unmade::Why(why) => failed(&why),
        }
    }
}

/// Looks at the disk with the rights of programs.
async fn as_programs<T: Send + 'static>(
    host: &Arc<Host>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let user = host.rules.user().cloned();
    blocking(move || match user {
        Some(user) => user.does(work),
        None => Ok(work()),
    })
    .await
}

/// Off the runtime's threads: an environment has many files.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn failed(why: &str) -> End {
    End::error(format!("entrypoint.python.requirements: {why}"), 0)
}

fn unkept(error: &io::Error) -> End {
    failed(&format!(
        "environments cannot be kept below the scratch folder: {error}"
    ))
}
