//! Programs in environments that are there and that are made for them, by a real interpreter and packages made here.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command as Blocking;

use trainyard_common::spec::{TrialSpec, Variable};
use trainyard_common::testing::report_skip;
use trainyard_proto::v1::AttemptOutcome;

use super::*;
use crate::attempt::Stop;
use crate::config::{Programs, WorkerConfig};
use crate::runner::Rules;
use crate::runner::scratch::Scratch;
use crate::runner::testing::{Ran, Run, assignment, exec_spec, run_alone, run_beside};
use crate::runner::user::{User, is_root};

/// A package that needs no other to be built, and runs code of its own meanwhile, in place of `HOOK`.
const BACKEND: &str = r#"
import os, subprocess, sys, time, zipfile
def build_wheel(to, config_settings=None, metadata_directory=None):
    HOOK
    with zipfile.ZipFile(os.path.join(to, "hello-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("hello.py", "WORD = 'hello from a package'\n")
        about = "hello-1.0.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "RECORD", "hello.py,,\n")
    return "hello-1.0-py3-none-any.whl"
"#;
const PROJECT: &str = "[project]\nname = 'hello'\nversion = '1.0'\n\
    [build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
/// What each program here does.
const USES: &str =
    "import hello, os, sys; print(hello.WORD, sys.prefix == os.environ['VIRTUAL_ENV'], sys.prefix)";

/// A folder with a package and a file of requirements, and one where workers keep their environments.
struct Bench {
    folder: tempfile::TempDir,
    /// An interpreter, and no uv.
    path: String,
}

impl Bench {
    /// `None`: Python cannot make environments here.
    fn new(test: &str, hook: &str) -> Option<Self> {
        let asked = Blocking::new("python3")
            .args(["-c", "import venv, ensurepip, sys; print(sys.executable)"])
            .output();
        let Some(asked) = asked.ok().filter(|said| said.status.success()) else {
            report_skip(test, "python3 with venv and ensurepip is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["bin", "package", "scratch"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let interpreter = String::from_utf8(asked.stdout).unwrap();
        let link = folder.path().join("bin/python3");
        std::os::unix::fs::symlink(interpreter.trim(), link).unwrap();
        let bench = Self {
            path: format!("{}/bin:/bin", folder.path().display()),
            folder,
        };
        bench.write("package/pyproject.toml", PROJECT);
        bench.write("package/backend.py", &BACKEND.replace("HOOK", hook));
        bench.write("requirements.txt", "./package");
        Some(bench)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
    }

    fn spec(&self, script: &str) -> TrialSpec {
        let mut spec = exec_spec(&["python", "-c", script]);
        let entrypoint = spec.job.entrypoint.as_mut().unwrap();
        entrypoint.python = Some(of_file(self.at("requirements.txt")));
        entrypoint
            .environment
            .insert("PATH".to_owned(), self.path.as_str().into());
        spec
    }

    fn host(&self, more: WorkerConfig) -> Arc<Host> {
        let rules = Rules::of(&WorkerConfig {
            programs: Programs::Allow,
            ..more
        });
        let rules = rules.unwrap();
        let user = rules.user().map(|user| &**user);
        let scratch = Scratch::open(Some(&self.at("scratch")), user);
        Arc::new(Host {
            scratch,
            rules,
            ..Host::for_test()
        })
    }

    async fn run(&self, spec: &TrialSpec) -> Ran {
        let host = self.host(WorkerConfig::default());
        run_beside(assignment(spec), host, |_| {}).await
    }

    /// What is kept: records, locks, folders.
    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.at("scratch/environments")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

fn of_file(file: PathBuf) -> PythonSpec {
    PythonSpec {
        requirements: Some(file),
        ..PythonSpec::default()
    }
}

fn completed(ran: &Ran) -> &str {
    let (end, log) = (&ran.end, ran.log());
    assert_eq!(end.outcome, AttemptOutcome::Completed, "{end:?} {log}");
    log
}

fn error(ran: &Ran) -> &str {
    let (end, log) = (&ran.end, ran.log());
    assert_eq!(end.outcome, AttemptOutcome::Error, "{end:?} {log}");
    &end.error
}

#[tokio::test]
async fn an_environment_that_is_there_is_the_program_s() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["python", "python3"] {
        let text = "#!/bin/sh\necho \"mine: $VIRTUAL_ENV\"; command -v python3\n";
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut spec = exec_spec(&["python"]);
    spec.job.entrypoint.as_mut().unwrap().python = Some(PythonSpec {
        venv: Some(folder.path().to_owned()),
        ..PythonSpec::default()
    });
    let ran = run_alone(spec, |_| {}).await;
    let (log, root) = (completed(&ran), folder.path().display());
    assert!(log.contains(&format!("mine: {root}\n")), "{log}");
    assert!(log.contains(&format!("{root}/bin/python3")), "{log}");
}

#[tokio::test]
async fn what_is_missing_is_named_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("bare")).unwrap();
    std::fs::create_dir_all(at("dangling/bin")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/python", at("dangling/bin/python")).unwrap();
    std::fs::write(at("editable.txt"), "-e .").unwrap();
    let venv = |name: &str| PythonSpec {
        venv: Some(at(name)),
        ..PythonSpec::default()
    };
    for (given, field, why) in [
        (
            venv("none"),
            "venv",
            "/none` on this worker: No such file or directory",
        ),
        (venv("bare"), "venv", "it has no bin/python"),
        (
            venv("dangling"),
            "venv",
            "its bin/python leads to cannot be used: No such",
        ),
        (
            of_file(at("none.txt")),
            "requirements",
            "none.txt` on this worker: No such file or directory",
        ),
        (of_file(at("bare")), "requirements", "it is no file"),
        (
            of_file(at("editable.txt")),
            "requirements",
            "outlives what is shipped",
        ),
        (PythonSpec::default(), "", "neither"),
    ] {
        let mut spec = exec_spec(&["python3", "-c", "print('never')"]);
        spec.job.entrypoint.as_mut().unwrap().python = Some(given);
        let ran = run_alone(spec, |_| {}).await;
        let told = error(&ran);
        let field = match field {
            "" => "entrypoint.python: ".to_owned(),
            field => format!("entrypoint.python.{field}: "),
        };
        assert!(told.starts_with(&field) && told.contains(why), "{told}");
        assert!(!ran.log().contains("never"));
    }
}

#[tokio::test]
async fn an_interpreter_that_cannot_make_one_is_named() {
    let Some(bench) = Bench::new("an_interpreter_that_cannot_make_one_is_named", "pass") else {
        return;
    };
    let run = async |script: Option<&str>| {
        let path = bench.at("bin/python3");
        std::fs::remove_file(&path).ok();
        if let Some(script) = script {
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut spec = bench.spec(USES);
        let entrypoint = spec.job.entrypoint.as_mut().unwrap();
        let bin = bench.at("bin").display().to_string();
        entrypoint
            .environment
            .insert("PATH".to_owned(), bin.as_str().into());
        bench.run(&spec).await
    };
    let told = run(None).await;
    assert!(
        error(&told).contains("there is no python3 in the PATH"),
        "{:?}",
        told.end
    );
    let told = run(Some("#!/bin/sh\necho 'pyenv: not installed' >&2; exit 127")).await;
    let told = error(&told);
    assert!(
        told.contains(
            "python3 does not run on this worker (exit status: 127): pyenv: not installed"
        ),
        "{told}"
    );
    let says = r#"{"version": "3.9.1 (x)", "prefix": "/", "base_prefix": "/", "platform": "p", "executable": "/x", "lacks": ["ensurepip"]}"#;
    let told = run(Some(&format!("#!/bin/sh\necho '{says}'"))).await;
    let told = error(&told);
    assert!(
        told.contains("python3 (3.9.1) on this worker lacks the module `ensurepip`"),
        "{told}"
    );
}

#[tokio::test]
async fn an_environment_is_made_once_for_all_who_need_it() {
    let test = "an_environment_is_made_once_for_all_who_need_it";
    let Some(bench) = Bench::new(test, "pass") else {
        return;
    };
    let spec = bench.spec(USES);
    let host = bench.host(WorkerConfig::default());
    let (one, two) = tokio::join!(
        run_beside(assignment(&spec), host.clone(), |_| {}),
        // Another worker, of the same folder.
        bench.run(&spec),
    );
    drop(host);
    // The next worker, and another job of the same packages.
    let three = bench
        .run(&bench.spec("import hello; print(hello.WORD, True)"))
        .await;
    let all = [one, two, three];
    for ran in &all {
        let log = completed(ran);
        assert!(log.contains("hello from a package True"), "{log}");
    }
    let makers = all
        .iter()
        .filter(|ran| ran.log().contains("making an environment"));
    assert_eq!(makers.count(), 1);
    assert_eq!(bench.kept().len(), 3, "{:?}", bench.kept());
    // Its own package has changed.
    bench.write(
        "package/backend.py",
        &BACKEND.replace("HOOK", "print('anew')"),
    );
    let four = bench.run(&spec).await;
    assert!(
        completed(&four).contains("making an environment"),
        "{}",
        four.log()
    );
}

#[tokio::test]
async fn a_package_s_code_sees_what_programs_see() {
    let test = "a_package_s_code_sees_what_programs_see";
    let hook = "raise SystemExit('saw ' + repr(sorted(os.environ)) + os.environ['KEY'])";
    let Some(bench) = Bench::new(test, hook) else {
        return;
    };
    std::fs::create_dir(bench.at("secrets")).unwrap();
    bench.write("secrets/key", "hunter2-and-more");
    let mut spec = bench.spec(USES);
    let entrypoint = spec.job.entrypoint.as_mut().unwrap();
    let secret = serde_json::from_str(r#"{"secret": "key"}"#).unwrap();
    entrypoint.environment.insert("KEY".to_owned(), secret);
    let given = Variable::from("https://given.example");
    entrypoint
        .environment
        .insert("PIP_EXTRA_INDEX_URL".to_owned(), given);
    let host = bench.host(WorkerConfig {
        secrets_dir: Some(bench.at("secrets")),
        ..WorkerConfig::default()
    });
    let ran = run_beside(assignment(&spec), host, |_| {}).await;
    let (told, log) = (error(&ran), ran.log());
    assert!(
        told.starts_with("entrypoint.python.requirements: pip ended"),
        "{told}"
    );
    for text in [told, log] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(log.contains("saw [") && log.contains("***"), "{log}");
    assert!(log.contains("'PIP_EXTRA_INDEX_URL'"), "{log}");
    // Of the worker's own.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    for own in ["CARGO_PKG_NAME", "TRAINYARD_PARAMS"] {
        assert!(!log.contains(own), "{own}: {log}");
    }
    // What has not come to its end is gone: the lock is left.
    assert_eq!(bench.kept().len(), 1, "{:?}", bench.kept());
}

#[tokio::test]
async fn what_fails_in_one_way_is_told_in_the_same_words() {
    let test = "what_fails_in_one_way_is_told_in_the_same_words";
    let hook = "import tempfile; raise RuntimeError('no compiler in ' + tempfile.mkdtemp())";
    let Some(bench) = Bench::new(test, hook) else {
        return;
    };
    let spec = bench.spec(USES);
    let (one, two) = (bench.run(&spec).await, bench.run(&spec).await);
    assert_eq!(error(&one), error(&two));
    assert!(
        error(&one).contains("RuntimeError: no compiler in TMPDIR/"),
        "{}",
        error(&one)
    );
    bench.write("requirements.txt", "./missing-1.0-py3-none-any.whl");
    let (one, two) = (bench.run(&spec).await, bench.run(&spec).await);
    assert_eq!(error(&one), error(&two));
    assert!(
        error(&one).contains("missing-1.0-py3-none-any.whl"),
        "{}",
        error(&one)
    );
}

#[tokio::test]
async fn who_is_told_to_stop_leaves_nothing_behind() {
    let test = "who_is_told_to_stop_leaves_nothing_behind";
    let mark = format!("{}", 1_000_000_000 + std::process::id());
    let hook = format!(
        "subprocess.Popen(['setsid', 'sleep', '{mark}'], stdout=2); open('begun', 'w').close(); time.sleep(1000)"
    );
    let Some(bench) = Bench::new(test, &hook) else {
        return;
    };
    let spec = bench.spec(USES);
    let signal = std::cell::OnceCell::new();
    let begun = bench.at("package/begun");
    let host = bench.host(WorkerConfig::default());
    let running = run_beside(assignment(&spec), host.clone(), |run: &mut Run| {
        signal.get_or_init(|| run.signal());
    });
    let mut running = std::pin::pin!(running);
    let ran = loop {
        tokio::select! {
            ran = &mut running => break ran,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        if let Some(signal) = signal.get().filter(|_| begun.exists()) {
            signal.request(Stop::Checkpoint);
        }
    };
    assert_eq!(
        ran.end.outcome,
        AttemptOutcome::Preempted,
        "{:?} {}",
        ran.end,
        ran.log()
    );
    assert_eq!(bench.kept().len(), 1, "{:?}", bench.kept());
    let running = Blocking::new("sh")
        .args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&running.stdout).contains(&format!("sleep {mark}")));
    // The next one begins anew.
    bench.write("package/backend.py", &BACKEND.replace("HOOK", "pass"));
    let ran = run_beside(assignment(&spec), host, |_| {}).await;
    assert!(
        completed(&ran).contains("hello from a package"),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn an_installation_has_the_limits_of_programs() {
    let test = "an_installation_has_the_limits_of_programs";
    let Some(bench) = Bench::new(test, "time.sleep(1000)") else {
        return;
    };
    for (config, limit) in [
        (
            WorkerConfig {
                program_time_s: Some(1),
                ..WorkerConfig::default()
            },
            "has reached a limit: --program-time 1",
        ),
        (
            WorkerConfig {
                program_memory_bytes: Some(1 << 20),
                ..WorkerConfig::default()
            },
            "has reached a limit: --program-memory-bytes 1048576",
        ),
    ] {
        let host = bench.host(config);
        let ran = run_beside(assignment(&bench.spec(USES)), host, |_| {}).await;
        assert!(error(&ran).contains(limit), "{}", error(&ran));
    }
}

#[tokio::test]
async fn what_is_installed_for_another_user_is_that_user_s() {
    let test = "what_is_installed_for_another_user_is_that_user_s";
    if !is_root() {
        eprintln!("skipped: only root can start programs as another user");
        return;
    }
    let hook = "assert os.getuid() != 0";
    let Some(mut bench) = Bench::new(test, hook) else {
        return;
    };
    // The one that everybody may use.
    bench.path = "/usr/bin:/bin".to_owned();
    let usable = Blocking::new("/usr/bin/python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    if !usable.is_ok_and(|said| said.status.success()) {
        report_skip(
            test,
            "/usr/bin/python3 with venv and ensurepip is not installed",
        );
        return;
    }
    // Where it may build.
    let nobody = User::find("nobody").unwrap();
    nobody.own(&bench.at("package")).unwrap();
    std::fs::set_permissions(
        bench.at("requirements.txt"),
        PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    std::fs::set_permissions(bench.at("scratch"), PermissionsExt::from_mode(0o711)).unwrap();
    let host = bench.host(WorkerConfig {
        program_user: Some("nobody".to_owned()),
        ..WorkerConfig::default()
    });
    let status = "print([line for line in open('/proc/self/status') if 'NoNewPrivs' in line])";
    let script = format!("{USES}; print('user', os.getuid()); {status}");
    let ran = run_beside(assignment(&bench.spec(&script)), host, |_| {}).await;
    let log = completed(&ran);
    assert!(log.contains("hello from a package True"), "{log}");
    assert!(log.contains(&format!("user {}", nobody.uid)), "{log}");
    assert!(log.contains("NoNewPrivs:\\t1"), "{log}");
    // A file that it may not read is not read for it.
    std::fs::set_permissions(
        bench.at("requirements.txt"),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let host = bench.host(WorkerConfig {
        program_user: Some("nobody".to_owned()),
        ..WorkerConfig::default()
    });
    let ran = run_beside(assignment(&bench.spec(USES)), host, |_| {}).await;
    assert!(error(&ran).contains("Permission denied"), "{}", error(&ran));
}

/// Where uv is installed it makes the same.
#[tokio::test]
async fn uv_makes_one_where_it_is_installed() {
    let test = "uv_makes_one_where_it_is_installed";
    let Some(bench) = Bench::new(test, "pass") else {
        return;
    };
    let found = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&found).map(|folder| folder.join("uv"));
    let Some(uv) = found.into_iter().find(|uv| uv.exists()) else {
        report_skip(test, "uv is not installed");
        return;
    };
    std::os::unix::fs::symlink(uv, bench.at("bin/uv")).unwrap();
    let spec = bench.spec(USES);
    let ran = bench.run(&spec).await;
    let log = completed(&ran);
    assert!(
        log.contains("by uv from") && log.contains("hello from a package True"),
        "{log}"
    );
    bench.write("requirements.txt", "./missing-1.0-py3-none-any.whl");
    let (one, two) = (bench.run(&spec).await, bench.run(&spec).await);
    assert_eq!(error(&one), error(&two));
    assert!(error(&one).contains("uv ended with"), "{}", error(&one));
}

#[test]
fn the_environment_comes_first_and_what_there_was_behind_it() {
    let python = Python {
        root: "/e".into(),
        _in_use: None,
    };
    let told = |path: Option<&str>| python.environment(path.map(Into::into));
    let first = |path: Option<&str>| told(path)[0].clone();
    let expected = |paths: &str| (PATH, OsString::from(paths));
    assert_eq!(first(Some("/a:/b")), expected("/e/bin:/a:/b"));
    assert_eq!(first(None), expected("/e/bin"));
    assert_eq!(first(Some("")), expected("/e/bin"));
    assert_eq!(told(None)[1], ("VIRTUAL_ENV", OsString::from("/e")));
}
