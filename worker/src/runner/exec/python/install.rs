//! How an environment is made: by uv where it is installed, else by Python's own venv and pip.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::requirements::Requirements;
use super::said;
use super::tool::{Broken, Hear, Ran, Tools};
use crate::runner::user::User;

/// The interpreter of which environments are made, as the program would find it.
const INTERPRETER: &str = "python3";
const UV: &str = "uv";
/// What an interpreter says of itself, on one line: two of one version may have other packages around them.
const SAYS: &str = "\
import importlib.util, json, sys, sysconfig
print(json.dumps({'version': sys.version, 'prefix': sys.prefix, 'base_prefix': sys.base_prefix,
    'platform': sysconfig.get_platform(), 'executable': sys.executable,
    'lacks': [name for name in ('venv', 'ensurepip') if importlib.util.find_spec(name) is None]}))";

/// Why there is no environment.
#[derive(Debug)]
pub(super) enum Unmade {
    /// The attempt is to stop.
    Stopped,
    /// A sentence, the same wherever and whenever it is met.
    Why(String),
}

/// What an interpreter says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interpreter {
    version: String,
    prefix: String,
    base_prefix: String,
    platform: String,
    executable: PathBuf,
    /// Modules that are needed where there is no uv.
    lacks: Vec<String>,
}

impl Interpreter {
    /// As it was told, for a key.
    pub(super) fn text(&self) -> String {
        [
            &*self.version,
            &self.prefix,
            &self.base_prefix,
            &self.platform,
            &self.executable.to_string_lossy(),
        ]
        .join("\n")
    }

    fn number(&self) -> &str {
        self.version.split_whitespace().next().unwrap_or("?")
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// The interpreter that the program would find.
pub(super) async fn interpreter(tools: &Tools<'_>) -> Result<Interpreter, Unmade> {
    let asked = words([INTERPRETER, "-I", "-c", SAYS]);
    let ran = tools.run(&asked, None, &[], Hear::Silently).await;
    let ran = ran.map_err(|broken| match broken {
        Broken::Start(error) if error.kind() == std::io::ErrorKind::NotFound => Unmade::Why(format!(
            "there is no {INTERPRETER} in the PATH of this worker's programs; install one, or give \
             entrypoint.python.venv"
        )),
        other => unmade(INTERPRETER, other),
    })?;
    let line = ran.output.iter().rev().find(|line| line.starts_with('{'));
    let said = line.and_then(|line| serde_json::from_str(line).ok());
    match (ran.status.success(), said) {
        (true, Some(said)) => Ok(said),
        _ => Err(Unmade::Why(format!(
            "{INTERPRETER} does not run on this worker ({}){}",
            ran.status,
            said::last(&ran, &[])
        ))),
    }
}

/// Where an environment is made, and of what.
pub(super) struct Plan<'a> {
    pub(super) interpreter: &'a Interpreter,
    pub(super) requirements: &'a Requirements,
    /// An empty folder.
    pub(super) to: &'a Path,
    /// A folder that goes once it is made.
    pub(super) temporary: &'a Path,
    /// The folder of what was shipped.
    pub(super) code: Option<&'a Path>,
    pub(super) user: Option<&'a User>,
}

impl Plan<'_> {
    /// Makes it.
    pub(super) async fn carry_out(&self, tools: &Tools<'_>) -> Result<(), Unmade> {
        let has_uv = has_uv(tools).await?;
        let tool = if has_uv { UV } else { "pip" };
        if !has_uv && !self.interpreter.lacks.is_empty() {
            return Err(Unmade::Why(format!(
                "{INTERPRETER} ({}) on this worker lacks the module `{}`, and uv is not installed; install one of them \
                 (on Debian and Ubuntu: python3-venv), or give entrypoint.python.venv",
                self.interpreter.number(),
                self.interpreter.lacks.join("`, `")
            )));
        }
        tools.info(&format!(
            "making an environment of Python {} by {tool} from {}",
            self.interpreter.number(),
            self.shown(&self.requirements.path)
        ));
        let steps = match has_uv {
            true => self.by_uv(),
            false => self.by_pip(),
        };
        let variables = self.variables(tools);
        for step in steps {
            let folder = self.requirements.path.parent();
            let ran = tools.run(&step, folder, &variables, Hear::Aloud);
            let ran = ran.await.map_err(|broken| unmade(tool, broken))?;
            if !ran.status.success() {
                return Err(Unmade::Why(self.failed(tool, &ran)));
            }
        }
        Ok(())
    }

    fn by_uv(&self) -> [Vec<OsString>; 2] {
        let executable = self.interpreter.executable.clone().into();
        let mut venv = words([UV, "venv", "--no-project", "--python"]);
        venv.extend([executable, self.to.into()]);
        let mut install = words([UV, "pip", "install", "--python"]);
        install.extend([self.python(), "-r".into(), self.file()]);
        if self.requirements.is_local() {
            // It would take what it has built before, for a folder whose sources have changed since.
            install.push("--refresh".into());
        }
        [venv, install]
    }

    /// Isolated (`-I`): modules that lie in the shipped folder are not Python's own.
    fn by_pip(&self) -> [Vec<OsString>; 2] {
        let mut venv: Vec<OsString> = vec![self.interpreter.executable.clone().into()];
        venv.extend(words(["-I", "-m", "venv"]));
        venv.push(self.to.into());
        let mut install = vec![self.python()];
        install.extend(words(["-I", "-u", "-m", "pip", "install", "--no-input"]));
        install.extend(words(["--disable-pip-version-check", "-r"]));
        install.push(self.file());
        [venv, install]
    }

    fn python(&self) -> OsString {
        self.to.join("bin/python").into()
    }

    fn file(&self) -> OsString {
        self.requirements.path.clone().into()
    }

    /// What the tools would leave behind when they are killed goes with the environment. They keep what they download
    /// in the user's home, where there is one.
    fn variables(&self, tools: &Tools<'_>) -> Vec<(&'static str, PathBuf)> {
        let mut variables = vec![("TMPDIR", self.temporary.to_owned())];
        if !self.has_home(tools) {
            let caches = ["PIP_CACHE_DIR", "UV_CACHE_DIR"].into_iter();
            let caches = caches.filter(|name| tools.variable(name).is_none());
            variables.extend(caches.map(|name| (name, self.temporary.join("cache"))));
        }
        variables
    }

    /// Whether something may be kept at home.
    fn has_home(&self, tools: &Tools<'_>) -> bool {
        let Some(home) = tools.variable("HOME").map(PathBuf::from) else {
            return false;
        };
        let probe = home.join(format!(".trainyard-{}", uuid::Uuid::new_v4().simple()));
        let keep = || std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe));
        let kept = match self.user {
            Some(user) => user.does(keep).and_then(|kept| kept),
            None => keep(),
        };
        kept.is_ok()
    }

    fn shown(&self, path: &Path) -> String {
        let within = self.code.and_then(|code| path.strip_prefix(code).ok());
        within.unwrap_or(path).display().to_string()
    }

    /// The same for all attempts, whose folders differ.
    fn failed(&self, tool: &str, ran: &Ran) -> String {
        let places = [
            (Some(self.temporary), "TMPDIR"),
            (Some(self.to), "VIRTUAL_ENV"),
            (self.code, "."),
        ];
        let places = places.into_iter();
        let mut places: Vec<(String, &str)> = places
            .filter_map(|(path, name)| Some((path?.display().to_string(), name)))
            .collect();
        // Some say it relative to where they run.
        let this_try = self.to.parent().and_then(Path::file_name);
        places.extend(this_try.map(|name| (name.to_string_lossy().into_owned(), "*")));
        format!(
            "{tool} ended with {}{}",
            ran.status,
            said::last(ran, &places)
        )
    }
}

async fn has_uv(tools: &Tools<'_>) -> Result<bool, Unmade> {
    let asked = words([UV, "--version"]);
    match tools.run(&asked, None, &[], Hear::Silently).await {
        Ok(ran) => Ok(ran.status.success()),
        Err(Broken::Start(_)) => Ok(false),
        Err(broken) => Err(unmade(UV, broken)),
    }
}

fn unmade(tool: &str, broken: Broken) -> Unmade {
    match broken {
        Broken::Stopped => Unmade::Stopped,
        Broken::Start(error) => Unmade::Why(format!("{tool} cannot be started: {error}")),
        Broken::Wait(error) => Unmade::Why(format!("{tool} cannot be waited for: {error}")),
        Broken::Limit(limit) => Unmade::Why(format!("{tool} has reached a limit: {limit}")),
    }
}
