//! Environments of Python that workers make for programs, by real processes: whatever ends a worker meanwhile, they are
//! whole or not there.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_common::testing::report_skip;
use trainyard_tests::{Sandbox, wait_for};

/// A package whose build says that it has begun, waits to be let go, and needs nothing else.
const BACKEND: &str = r#"
import os, time, zipfile
def build_wheel(to, config_settings=None, metadata_directory=None):
    gates = os.environ["GATES"]
    open(os.path.join(gates, f"begun-{os.environ['TRAINYARD_WATCHDOG']}"), "w").close()
    while not os.path.exists(os.path.join(gates, "go")):
        time.sleep(0.02)
    with zipfile.ZipFile(os.path.join(to, "number-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("number.py", "VALUE = 0.25\n")
        about = "number-1.0.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: number\nVersion: 1.0\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "RECORD", "number.py,,\n")
    return "number-1.0-py3-none-any.whl"
"#;
const PROJECT: &str = "[project]\nname = 'number'\nversion = '1.0'\n\
    [build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
const PROGRAM: &str = r#"
import json, number, os, sys
assert sys.prefix == os.environ["VIRTUAL_ENV"], sys.prefix
print("in", sys.prefix)
print(json.dumps({"metrics": {"loss": number.VALUE}}))
"#;

struct Bench {
    sandbox: Sandbox,
    spec: String,
}

impl Bench {
    fn new(test: &str) -> Result<Option<Self>> {
        let asked = Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .output();
        if !asked.is_ok_and(|said| said.status.success()) {
            report_skip(test, "python3 with venv and ensurepip is not installed");
            return Ok(None);
        }
        let sandbox = Sandbox::new()?;
        let code = sandbox.path().join("code");
        fs::create_dir_all(code.join("package"))?;
        fs::write(code.join("train.py"), PROGRAM)?;
        fs::write(code.join("package/backend.py"), BACKEND)?;
        fs::write(code.join("package/pyproject.toml"), PROJECT)?;
        fs::write(code.join("requirements.txt"), "./package\n")?;
        let gates = sandbox.path().display();
        let spec = format!(
            "name: installed
entrypoint:
  command: [python, train.py]
  ship: code
  python: {{requirements: requirements.txt}}
  environment: {{GATES: \"{gates}\"}}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: random, max_trials: 1}}
retry_backoff: {{first: 0.1, cap: 0.1}}
"
        );
        let spec = sandbox.write("installed.yaml", &spec)?;
        Ok(Some(Self { sandbox, spec }))
    }

    /// Builds that have begun, on whatever worker.
    fn begun(&self) -> Result<usize> {
        let mut begun = 0;
        for entry in fs::read_dir(self.sandbox.path())? {
            let name = entry?.file_name();
            begun += usize::from(name.to_string_lossy().starts_with("begun-"));
        }
        Ok(begun)
    }

    fn wait_for_builds(&self, count: usize) -> Result<()> {
        wait_for("the builds", || Ok((self.begun()? >= count).then_some(())))
    }

    fn kept(&self, scratch: &str) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(self.sandbox.path().join(scratch).join("environments"))? {
            kept.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(kept)
    }

    fn worker(&self, name: &str, scratch: &str) -> Result<trainyard_tests::Process> {
        let scratch = self.sandbox.path().join(scratch).display().to_string();
        let arguments = ["--programs", "allow", "--scratch-dir", &scratch];
        self.sandbox.worker_with(name, 1, &arguments, &[])
    }

    fn log(&self, job: &str) -> Result<String> {
        let logs = self.sandbox.ctl(&["logs", job])?;
        ensure!(logs.code == 0, "{logs:?}");
        Ok(logs.stdout)
    }
}

#[test]
fn what_a_killed_worker_has_begun_the_next_one_makes_anew() -> Result<()> {
    let test = "what_a_killed_worker_has_begun_the_next_one_makes_anew";
    let Some(mut bench) = Bench::new(test)? else {
        return Ok(());
    };
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let first = bench.worker("first", "scratch")?;
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    bench.wait_for_builds(1)?;
    first.kill()?;
    let _second = bench.worker("second", "scratch")?;
    bench.wait_for_builds(2)?;
    bench.sandbox.write("go", "")?;
    let completed = bench.sandbox.completed(&job)?;
    assert_eq!(completed["job"]["best_value"], 0.25, "{completed:#}");
    assert_eq!(bench.log(&job)?.matches("making an environment").count(), 2);
    // A record, a lock and a folder: of the first try nothing is left.
    let kept = bench.kept("scratch")?;
    assert_eq!(kept.len(), 3, "{kept:?}");
    // Whoever needs it next has it.
    let next = bench.sandbox.submit(&bench.spec, &[])?;
    bench.sandbox.completed(&next)?;
    let log = bench.log(&next)?;
    assert!(
        log.contains("scratch/environments/") && !log.contains("making"),
        "{log}"
    );
    Ok(())
}

#[test]
fn ranks_wait_for_the_one_whose_worker_installs() -> Result<()> {
    let test = "ranks_wait_for_the_one_whose_worker_installs";
    let Some(mut bench) = Bench::new(test)? else {
        return Ok(());
    };
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let ready = bench.worker("ready", "one")?;
    bench.sandbox.write("go", "")?;
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    bench.sandbox.completed(&job)?;
    fs::remove_file(bench.sandbox.path().join("go"))?;
    let _other = bench.worker("other", "two")?;
    let of_two = ["--set", "resources.slots_per_trial=2"];
    let job = bench.sandbox.submit(&bench.spec, &of_two)?;
    bench.wait_for_builds(2)?;
    // Both are there, and neither is started before the other.
    let started = |job: &str| Ok::<_, anyhow::Error>(bench.log(job)?.contains("started `"));
    assert!(!started(&job)?);
    bench.sandbox.write("go", "")?;
    bench.sandbox.completed(&job)?;
    let trial = bench.sandbox.json(&["trial", "describe", &job, "0"])?;
    let attempts = trial["trial"]["attempts"]
        .as_array()
        .context("no attempts")?;
    assert_eq!(attempts.len(), 1, "{trial:#}");
    drop(ready);
    Ok(())
}

#[test]
fn what_cannot_be_installed_fails_the_job_after_a_few() -> Result<()> {
    let test = "what_cannot_be_installed_fails_the_job_after_a_few";
    let Some(mut bench) = Bench::new(test)? else {
        return Ok(());
    };
    let requirements = bench.sandbox.path().join("code/requirements.txt");
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let _worker = bench.worker("worker", "scratch")?;
    fs::write(&requirements, "./missing-1.0-py3-none-any.whl\n")?;
    let many = [
        "--set",
        "searcher.max_trials=8",
        "--set",
        "max_identical_failures=2",
    ];
    let job = bench.sandbox.submit(&bench.spec, &many)?;
    let ended = wait_for("the job's end", || {
        let described = bench.sandbox.json(&["describe", &job])?;
        let state: &Value = &described["job"]["state"];
        ensure!(state != "completed", "{described:#}");
        Ok((state == "failed").then_some(described))
    })?;
    let error = ended["job"]["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("2 trials have failed in the same way")
            && error.contains("entrypoint.python.requirements: ")
            && error.contains("missing-1.0-py3-none-any.whl"),
        "{error}"
    );
    // One that is not there is told before.
    fs::remove_file(&requirements)?;
    let refused = bench.sandbox.ctl(&["submit", &bench.spec])?;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("`requirements.txt` is not among what is shipped"),
        "{}",
        refused.stderr
    );
    Ok(())
}
