//! Code that is shipped with a job, by real processes: the same for each attempt, stored once, gone with its jobs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use trainyard_tests::{Sandbox, wait_for};

/// Reports the number that its module holds. Its first attempt waits to be let go and fails.
const PROGRAM: &str = r#"
import json, os, sys, time
sys.path.insert(0, "lib")
import number
assert not os.path.exists("left"), "the folder is not a clean one"
open("left", "w").close()
gates = os.environ["GATES"]
if os.environ["TRAINYARD_ATTEMPT"] == "0" and os.environ["FAILS"] == "yes":
    open(os.path.join(gates, "started"), "w").close()
    while not os.path.exists(os.path.join(gates, "go")):
        time.sleep(0.02)
    sys.exit("as it was told")
print(json.dumps({"metrics": {"loss": number.VALUE}}))
"#;

struct Bench {
    sandbox: Sandbox,
    spec: String,
}

impl Bench {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let code = sandbox.path().join("code");
        fs::create_dir_all(code.join("lib"))?;
        fs::create_dir_all(code.join("secret"))?;
        fs::write(code.join("train.py"), PROGRAM)?;
        fs::write(code.join("lib/number.py"), "VALUE = 1.0")?;
        fs::write(code.join("secret/key"), "not to be shipped")?;
        let gates = sandbox.path().display();
        let spec = format!(
            "name: shipped
entrypoint:
  command: [python3, train.py]
  ship: code
  exclude: [secret]
  environment: {{GATES: \"{gates}\", FAILS: \"no\"}}
hyperparameters: {{x: {{type: const, val: 1}}}}
objectives: [{{metric: loss, mode: minimize}}]
searcher: {{name: random, max_trials: 1}}
retry_backoff: {{first: 0.1, cap: 0.1}}
"
        );
        let spec = sandbox.write("shipped.yaml", &spec)?;
        Ok(Self { sandbox, spec })
    }

    /// What submitting said, and the job.
    fn submit(&self, more: &[&str]) -> Result<(String, String)> {
        let answer = self
            .sandbox
            .ctl(&[&["submit", &self.spec], more].concat())?;
        ensure!(answer.code == 0, "{}", answer.stderr);
        Ok((answer.stderr, answer.stdout.trim().to_owned()))
    }

    /// Stored bundles.
    fn bundles(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.sandbox.path().join("data/checkpoints"))? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("bundles") {
                for entry in fs::read_dir(&folder)? {
                    found.push(entry?.path());
                }
            }
        }
        Ok(found)
    }

    fn loss(&self, job: &str) -> Result<f64> {
        self.sandbox.completed(job)?;
        let trials = self.sandbox.trials(job)?;
        trials[0]["best_value"].as_f64().context("no value")
    }

    fn delete(&self, job: &str) -> Result<()> {
        let answer = self.sandbox.ctl(&["delete", job])?;
        ensure!(answer.code == 0, "{}", answer.stderr);
        Ok(())
    }
}

#[test]
fn every_attempt_runs_what_was_submitted() -> Result<()> {
    let mut bench = Bench::new()?;
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let _worker = bench.sandbox.worker("worker-a", 1)?;
    let (said, job) = bench.submit(&["--set", "entrypoint.environment.FAILS=\"yes\""])?;
    assert!(
        said.contains("ships 2 files") && said.contains("packed"),
        "{said}"
    );
    let gates = bench.sandbox.path().to_owned();
    wait_for("the first attempt", || {
        Ok(gates.join("started").exists().then_some(()))
    })?;
    fs::write(gates.join("code/lib/number.py"), "VALUE = 2.0")?;
    bench.sandbox.write("go", "")?;
    assert_eq!(bench.loss(&job)?, 1.0, "the retry runs the old code");

    // Another folder now, stored once for the two jobs that ship it.
    let (said, second) = bench.submit(&[])?;
    assert!(said.contains("packed"), "{said}");
    assert_eq!(bench.loss(&second)?, 2.0);
    let (said, third) = bench.submit(&[])?;
    assert!(said.contains("has already"), "{said}");
    assert_eq!(bench.loss(&third)?, 2.0);
    assert_eq!(bench.bundles()?.len(), 2);

    // Bundles go with the last job that names them.
    for (gone, left) in [(job, 1), (second, 1), (third, 0)] {
        bench.delete(&gone)?;
        wait_for("the bundle to go", || {
            Ok((bench.bundles()?.len() == left).then_some(()))
        })?;
    }
    let (said, again) = bench.submit(&[])?;
    assert!(said.contains("packed"), "{said}");
    assert_eq!(bench.loss(&again)?, 2.0);
    Ok(())
}

#[test]
fn a_run_goes_on_with_the_code_that_it_was_begun_with() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.sandbox.path().to_owned();
    let arguments = [
        "run",
        &bench.spec,
        "--set",
        "entrypoint.environment.FAILS=\"yes\"",
        "--set",
        "max_restarts=3",
    ];
    let run = bench.sandbox.spawn_ctl("run", &arguments)?;
    wait_for("the first attempt", || {
        Ok(folder.join("started").exists().then_some(()))
    })?;
    run.kill()?;
    fs::write(folder.join("code/lib/number.py"), "VALUE = 2.0")?;
    bench.sandbox.write("go", "")?;
    let resumed = bench
        .sandbox
        .ctl(&[&arguments[..], &["--resume", "--output", "json"]].concat())?;
    let result = resumed.json()?;
    assert_eq!(result["trials"][0]["best_value"], 1.0, "{result:#}");
    assert!(
        resumed.stderr.contains("goes on with the code"),
        "{}",
        resumed.stderr
    );
    Ok(())
}

#[test]
fn what_cannot_be_shipped_or_started_is_named() -> Result<()> {
    let mut bench = Bench::new()?;
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let refused = |more: &[&str]| -> Result<String> {
        let answer = bench
            .sandbox
            .ctl(&[&["submit", &bench.spec], more].concat())?;
        ensure!(answer.code == 2, "exit {}: {}", answer.code, answer.stderr);
        Ok(answer.stderr)
    };
    let cases = [
        ("entrypoint.ship=nowhere", "nowhere: No such file"),
        ("entrypoint.ship=shipped.yaml", "is no folder"),
        ("entrypoint.exclude=[\"*\"]", "there is nothing in it"),
        (
            "entrypoint.working_directory=/tmp",
            "within the shipped folder",
        ),
        (
            "entrypoint.working_directory=../x",
            "within the shipped folder",
        ),
        (
            "entrypoint.working_directory=src",
            "entrypoint.working_directory: `src` is not among what is shipped",
        ),
        ("entrypoint.bundle=abc", "entrypoint.bundle: `abc`"),
        ("entrypoint.ship=${x}", "entrypoint.ship: holds a reference"),
    ];
    for (set, expected) in cases {
        let said = refused(&["--set", set])?;
        assert!(said.contains(expected), "{set}: {said}");
    }
    let unknown = format!("entrypoint.bundle={}", "f".repeat(64));
    let said = refused(&["--set", &unknown])?;
    assert!(
        said.contains("is not in") && said.contains("UploadBundle"),
        "{said}"
    );
    Ok(())
}
