//! What this worker lets programs do, whatever the coordinator says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trainyard_common::config::ConfigError;

use super::limits::Limits;
use super::variables;
use crate::config::{Programs, VariablePattern, WorkerConfig};
use crate::runner::user::{User, is_root};

/// Of all programs that run here.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    programs: Programs,
    /// What they see of the worker's environment beside what every program does.
    passed: Vec<VariablePattern>,
    /// Where their secrets are.
    secrets: Option<PathBuf>,
    /// As whom they run, if not as the worker.
    user: Option<Arc<User>>,
    limits: Limits,
    /// What kept environments of Python may take together.
    environments_bytes: u64,
}

impl Rules {
    /// # Errors
    /// A setting that this machine or this process cannot meet.
    pub(crate) fn of(config: &WorkerConfig) -> Result<Self, ConfigError> {
        let user = config.program_user.as_deref().map(user).transpose()?;
        Ok(Self {
            programs: config.programs,
            passed: config.pass_environment.clone(),
            secrets: config.secrets_dir.clone(),
            user,
            limits: Limits::of(config),
            environments_bytes: config.environments_bytes,
        })
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self {
            programs: Programs::Allow,
            passed: Vec::new(),
            secrets: None,
            user: None,
            limits: Limits::default(),
            environments_bytes: u64::MAX,
        }
    }

    #[cfg(test)]
    pub(super) fn with_secrets(folder: &Path) -> Self {
        Self {
            secrets: Some(folder.to_owned()),
            ..Self::for_test()
        }
    }

    /// Whether programs run here at all.
    pub(crate) fn allow(&self) -> bool {
        self.programs == Programs::Allow
    }

    /// As whom programs run, if not as the worker.
    pub(crate) fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// What each program may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What environments of Python may take together that are kept.
    pub(super) fn environments_bytes(&self) -> u64 {
        self.environments_bytes
    }

    /// The folder of files that are secrets of programs.
    pub(super) fn secrets(&self) -> Option<&Path> {
        self.secrets.as_deref()
    }

    /// What a program sees of the worker's environment.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        variables::passed(std::env::vars_os(), &self.passed)
    }

    /// Where programs are looked for here.
    pub(super) fn path(&self) -> Option<OsString> {
        std::env::var_os("PATH")
    }

    /// What a program may lack that ends with these words, with the way out.
    pub(super) fn lacking(&self, last_error: &str) -> Option<String> {
        let name = variables::withheld(last_error, std::env::vars_os(), &self.passed)?;
        Some(format!(
            "{name} is set for the worker, and programs do not see it: --pass-environment {name}, or \
             entrypoint.environment"
        ))
    }

    /// Why none runs here, with the way out.
    pub(super) fn refusal(&self) -> Option<String> {
        (!self.allow()).then(|| {
            format!(
                "entrypoint: this worker runs no programs (programs: {}); start it with --programs allow, \
                 TRAINYARD_PROGRAMS=allow or `programs: allow` in its file",
                self.programs
            )
        })
    }
}

fn user(given: &str) -> Result<Arc<User>, ConfigError> {
    if !is_root() {
        return Err(ConfigError::invalid(
            "program_user",
            format!("{given:?}"),
            "none, or a worker of root: nobody else can start programs as another user",
        ));
    }
    let found = User::find(given);
    let found = found.map_err(|why| ConfigError::unusable("program_user", why))?;
    Ok(Arc::new(found))
}
