//! Checkpoints of people's own programs, by real processes: killed, paused, promoted, copied, damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_tests::{Sandbox, repository, wait_for};

/// What a line of the program's trace says.
#[derive(Debug, Clone, PartialEq)]
struct Traced {
    trial: u32,
    attempt: u32,
    worker: i32,
    process: i32,
    what: String,
}

/// A sandbox with the program's folders.
struct Bench {
    sandbox: Sandbox,
    spec: String,
}

impl Bench {
    /// `more`: of the spec, beside the program and its objective.
    fn new(hold: &str, more: &str) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let folder = sandbox.path().display().to_string();
        let program = repository().join("tests/programs/checkpoints.py");
        let spec = format!(
            "name: folders
seed: 3
entrypoint:
  command: [python3, \"{}\"]
  environment: {{HOLD: \"{hold}\", GATES: \"{folder}\", TRACE: \"{folder}/trace\"}}
objectives: [{{metric: loss, mode: minimize}}]
retry_backoff: {{first: 0.1, cap: 0.1}}
{more}
",
            program.display()
        );
        let spec = sandbox.write("folders.yaml", &spec)?;
        Ok(Self { sandbox, spec })
    }

    fn go(&self, epoch: u32) -> Result<()> {
        self.sandbox.write(&format!("go-{epoch}"), "")?;
        Ok(())
    }

    fn trace(&self) -> Result<Vec<Traced>> {
        let text = fs::read_to_string(self.sandbox.path().join("trace")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| {
            let mut words = line.splitn(5, ' ');
            let mut next = || words.next().context("a short line");
            Ok(Traced {
                trial: next()?.parse()?,
                attempt: next()?.parse()?,
                worker: next()?.parse()?,
                process: next()?.parse()?,
                what: next()?.to_owned(),
            })
        };
        whole.lines().map(line).collect()
    }

    /// What a trial's attempts did, without who did it.
    fn whats(&self, trial: u32) -> Result<Vec<String>> {
        let traced = self.trace()?.into_iter();
        let of_trial = traced.filter(|traced| traced.trial == trial);
        Ok(of_trial.map(|traced| traced.what).collect())
    }

    /// Waits until the trial's checkpoint of this epoch is known to the coordinator.
    fn saved(&self, job: &str, trial: usize, epoch: u64) -> Result<()> {
        wait_for(&format!("the checkpoint of epoch {epoch}"), || {
            let trials = self.sandbox.trials(job)?;
            let known = trials
                .get(trial)
                .and_then(|trial| trial["latest_checkpoint"]["epoch"].as_u64());
            Ok((known == Some(epoch)).then_some(()))
        })
    }

    fn state(&self, job: &str, trial: u64, epoch: &str) -> Result<Value> {
        let to = self
            .sandbox
            .path()
            .join(format!("download-{trial}-{epoch}"));
        let (trial, to) = (trial.to_string(), to.display().to_string());
        let arguments = [
            "checkpoint",
            "download",
            job,
            "--trial",
            &trial,
            "--latest",
            "--to",
            &to,
        ];
        let downloaded = self.sandbox.json(&arguments)?;
        let folder = downloaded["files"][0].as_str().context("no files")?;
        let text = fs::read_to_string(Path::new(folder).join("state.json"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// An epoch's line, with the value that it has undisturbed.
fn epochs(target: f64, range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let mut value = 100.0;
    let mut lines = Vec::new();
    for epoch in 1..=*range.end() {
        value = value * 0.5 + target;
        if range.contains(&epoch) {
            lines.push(format!("epoch {epoch} {value:?}"));
        }
    }
    lines
}

/// An attempt that trained these epochs, going on from the one before.
fn attempt(target: f64, range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let mut lines = vec![format!("from {}", range.start() - 1)];
    lines.extend(epochs(target, range));
    lines
}

const ONE: &str =
    "hyperparameters: {target: {type: const, val: 2.5}}\nsearcher: {name: random, max_trials: 1}";

fn kill(process: i32) -> Result<()> {
    let status = std::process::Command::new("kill")
        .args(["-9", &process.to_string()])
        .status()?;
    ensure!(status.success(), "kill -9 {process}");
    Ok(())
}

#[test]
fn a_killed_program_and_a_killed_worker_s_go_on_from_the_checkpoint() -> Result<()> {
    let mut bench = Bench::new("3,5", ONE)?;
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let worker = bench.sandbox.worker("worker-a", 1)?;
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    bench.saved(&job, 0, 2)?;
    kill(bench.trace()?[0].process)?;
    bench.go(3)?;
    bench.saved(&job, 0, 4)?;
    worker.kill()?;
    let _other = bench.sandbox.worker("worker-b", 1)?;
    bench.go(5)?;
    let described = bench.sandbox.completed(&job)?;
    let expected = [
        attempt(2.5, 1..=2),
        attempt(2.5, 3..=4),
        attempt(2.5, 5..=6),
    ]
    .concat();
    assert_eq!(bench.whats(0)?, expected);
    // The last value is the one of a run that nobody disturbed.
    let undisturbed = Bench::new("", ONE)?;
    let run = undisturbed.sandbox.json(&["run", &undisturbed.spec])?;
    assert_eq!(
        described["job"]["best_value"], run["job"]["best_value"],
        "{described:#}"
    );
    assert_eq!(undisturbed.whats(0)?, attempt(2.5, 1..=6));
    let verified = bench.sandbox.ctl(&["checkpoint", "verify", &job])?;
    assert!(
        verified.code == 0 && verified.stdout.contains("whole, 23 files"),
        "{}",
        verified.stdout
    );
    let state = bench.state(&job, 0, "end")?;
    assert_eq!(
        (state["epoch"].as_u64(), state["value"].as_f64()),
        (Some(6), run["job"]["best_value"].as_f64())
    );
    // Not more than the keep rule keeps.
    let listed = bench.sandbox.json(&["checkpoint", "list", &job])?;
    let kept = listed["checkpoints"].as_array().map_or(0, Vec::len);
    assert!((1..=2).contains(&kept), "{listed:#}");
    Ok(())
}

#[test]
fn a_promoted_program_goes_on_from_its_rung_on_another_worker() -> Result<()> {
    let more = "hyperparameters: {target: {type: categorical, vals: [1.5, 9.5]}}
searcher: {name: grid}
scheduler: {name: asha, min_resource: 2, max_resource: 4, eta: 2}";
    let mut bench = Bench::new("3", more)?;
    let _coordinator = bench.sandbox.coordinator(2_000)?;
    let worker = bench.sandbox.worker("worker-a", 1)?;
    let job = bench
        .sandbox
        .submit(&bench.spec, &["--set", "searcher.max_concurrent_trials=1"])?;
    // The first is at its rung, and waits for others.
    bench.saved(&job, 0, 2)?;
    let first = bench.trace()?[0].worker;
    worker.kill()?;
    bench.go(3)?;
    let _other = bench.sandbox.worker("worker-b", 1)?;
    bench.sandbox.completed(&job)?;
    let whats = bench.whats(0)?;
    let first_rung = attempt(1.5, 1..=2);
    ensure!(whats.starts_with(&first_rung), "{whats:?}");
    // Every epoch once, whatever number of attempts it took.
    let trained: Vec<_> = whats
        .iter()
        .filter(|what| what.starts_with("epoch"))
        .cloned()
        .collect();
    assert_eq!(trained, epochs(1.5, 1..=4));
    let last = bench
        .trace()?
        .into_iter()
        .rfind(|traced| traced.trial == 0)
        .context("no trace")?;
    assert_ne!(last.worker, first, "{last:?}");
    Ok(())
}

#[test]
fn a_paused_program_goes_on_and_a_damaged_checkpoint_is_passed_over() -> Result<()> {
    let more = format!("{ONE}\ncheckpoint_storage: {{keep_last: 3}}");
    let mut bench = Bench::new("4", &more)?;
    let _coordinator = bench.sandbox.coordinator(5_000)?;
    let _worker = bench.sandbox.worker("worker-a", 1)?;
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    bench.saved(&job, 0, 3)?;
    let answer = bench.sandbox.ctl(&["pause", &job])?;
    ensure!(answer.code == 0, "{}", answer.stderr);
    wait_for("the job to be paused", || {
        let described = bench.sandbox.json(&["describe", &job])?;
        let running = bench.sandbox.trials(&job)?[0]["state"] == "running";
        Ok((described["job"]["state"] == "paused" && !running).then_some(()))
    })?;
    let listed = bench.sandbox.json(&["checkpoint", "list", &job])?;
    let url = listed["checkpoint_url"].as_str().context("no url")?;
    let root = PathBuf::from(url.strip_prefix("file://").context("no file")?);
    let all = listed["checkpoints"].as_array().context("no checkpoints")?;
    let newest = all
        .iter()
        .find(|one| one["latest"] == true)
        .context("no newest")?;
    damage(
        &root,
        newest["manifest"].as_str().context("no manifest")?,
        all,
    )?;
    let verified = bench.sandbox.ctl(&["checkpoint", "verify", &job])?;
    assert!(
        verified.code != 0 && verified.stdout.contains("NOT WHOLE"),
        "{}",
        verified.stdout
    );
    bench.go(4)?;
    let answer = bench.sandbox.ctl(&["resume", &job])?;
    ensure!(answer.code == 0, "{}", answer.stderr);
    bench.sandbox.completed(&job)?;
    // Epoch 3 was trained again, from the checkpoint before the damaged one.
    assert_eq!(
        bench.whats(0)?,
        [attempt(2.5, 1..=3), attempt(2.5, 3..=6)].concat()
    );
    let logs = bench.sandbox.ctl(&["logs", &job])?;
    assert!(logs.stdout.contains("going on from"), "{}", logs.stdout);
    Ok(())
}

/// Changes a byte in a part that no other checkpoint shares.
fn damage(root: &Path, manifest: &str, all: &[Value]) -> Result<()> {
    let parts = |manifest: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(root.join(manifest))?;
        let manifest: Value = serde_json::from_str(&text)?;
        let parts = manifest["parts"].as_array().context("no parts")?;
        Ok(parts
            .iter()
            .filter_map(|part| part["path"].as_str().map(str::to_owned))
            .collect())
    };
    let mut shared = BTreeMap::new();
    for one in all.iter().filter_map(|one| one["manifest"].as_str()) {
        for part in parts(one)? {
            *shared.entry(part).or_insert(0) += 1;
        }
    }
    let mut own = parts(manifest)?
        .into_iter()
        .filter(|part| shared[part] == 1);
    let path = root.join(own.next().context("nothing of its own")?);
    let mut bytes = fs::read(&path)?;
    bytes[0] ^= 1;
    Ok(fs::write(path, bytes)?)
}

#[test]
fn members_of_a_population_go_on_from_each_other_s_checkpoints() -> Result<()> {
    let more = "hyperparameters: {target: {type: double, minval: 0.0, maxval: 50.0}}
searcher: {name: random, max_trials: 4}
scheduler: {name: pbt, interval: 2, max_resource: 6, quantile: 0.25}";
    let mut bench = Bench::new("", more)?;
    let _coordinator = bench.sandbox.coordinator(5_000)?;
    let _workers = [
        bench.sandbox.worker("worker-a", 2)?,
        bench.sandbox.worker("worker-b", 2)?,
    ];
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    bench.sandbox.completed(&job)?;
    let mut copied = 0;
    for trial in 0..4 {
        let state = bench.state(&job, trial, "end")?;
        assert_eq!(state["epoch"], 6, "{state}");
        copied += usize::from(state["trials"].as_array().map_or(0, Vec::len) > 1);
        // Nobody began anew after its first epochs.
        let begun = bench.whats(u32::try_from(trial)?)?;
        let anew = begun.iter().filter(|what| *what == "from 0").count();
        assert_eq!(anew, 1, "{begun:?}");
    }
    assert!(copied >= 1, "nobody copied anybody");
    Ok(())
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_fails_the_attempt_with_the_reason() -> Result<()> {
    let more = format!("{ONE}\nmax_restarts: 0");
    let mut bench = Bench::new("3", &more)?;
    let _coordinator = bench.sandbox.coordinator(5_000)?;
    let _worker = bench.sandbox.limited_worker("worker-a", 128)?;
    let job = bench.sandbox.submit(&bench.spec, &[])?;
    let answer = bench.sandbox.ctl(&["wait", &job])?;
    assert_ne!(answer.code, 0, "{}", answer.stdout);
    let trial = &bench.sandbox.trials(&job)?[0];
    let error = trial["error"].as_str().context("no error")?;
    assert!(error.contains("a checkpoint could not be saved"), "{error}");
    assert!(trial["latest_checkpoint"].is_null(), "{trial:#}");
    Ok(())
}

fn artifacts(sandbox: &Sandbox, job: &str) -> Result<Vec<(String, u64, u64)>> {
    let listed = sandbox.json(&["artifact", "list", job])?;
    let listed = listed["artifacts"].as_array().context("no artifacts")?;
    let entry = |entry: &Value| {
        let name = entry["name"].as_str()?.to_owned();
        Some((name, entry["attempt"].as_u64()?, entry["bytes"].as_u64()?))
    };
    listed
        .iter()
        .map(|found| entry(found).with_context(|| format!("{found}")))
        .collect()
}

#[test]
fn artifacts_outlive_their_worker_and_the_newest_of_a_name_counts() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let program = repository().join("tests/programs/artifacts.py");
    let store = sandbox.path().join("store");
    let spec = format!(
        "name: keeps\nentrypoint: {{command: [python3, \"{}\"]}}\nsearcher: {{max_trials: 1}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\nretry_backoff: {{first: 0.1, cap: 0.1}}\n\
         checkpoint_storage: {{url: \"file://{}\"}}\n",
        program.display(),
        store.display()
    );
    let spec = sandbox.write("keeps.yaml", &spec)?;
    let _coordinator = sandbox.coordinator(2_000)?;
    let worker = sandbox.worker("worker-a", 1)?;
    let job = sandbox.submit(&spec, &[])?;
    wait_for("the first artifact", || {
        let kept = artifacts(&sandbox, &job)?;
        Ok((kept == [("plot.png".to_owned(), 0, 17)]).then_some(()))
    })?;
    worker.kill()?;
    let _other = sandbox.worker("worker-b", 1)?;
    sandbox.completed(&job)?;
    let expected = [
        ("plot.png".to_owned(), 1, 17),
        ("reports/last".to_owned(), 1, 8),
    ];
    assert_eq!(artifacts(&sandbox, &job)?, expected);
    // No checkpoint is mistaken for one.
    let checkpoints = sandbox.json(&["checkpoint", "list", &job])?;
    assert_eq!(checkpoints["checkpoints"], serde_json::json!([]));
    sandbox.ctl(&["archive", &job])?;
    let to = sandbox.path().join("fetched");
    let at = to.display().to_string();
    let fetched = [
        "artifact",
        "download",
        &job,
        "0",
        "reports/last",
        "--to",
        &at,
    ];
    sandbox.json(&fetched)?;
    assert_eq!(fs::read_to_string(to.join("tables/one.csv"))?, "a,b\n1,2\n");
    assert_eq!(sandbox.ctl(&fetched)?.code, 1, "it is there already");
    let at = sandbox.path().join("plot").display().to_string();
    let near = sandbox.ctl(&["artifact", "download", &job, "0", "plot.pn", "--to", &at])?;
    assert_eq!(near.code, 4, "{}", near.stderr);
    ensure!(
        near.stderr.contains("did you mean `plot.png`?"),
        "{}",
        near.stderr
    );
    sandbox.json(&["artifact", "download", &job, "0", "plot.png", "--to", &at])?;
    assert_eq!(fs::read_to_string(&at)?, "plot of attempt 1");
    sandbox.ctl(&["delete", &job, "--checkpoints"])?;
    wait_for("the artifacts' end", || {
        Ok((files_below(&store) == 0).then_some(()))
    })
}

/// Folders may vanish meanwhile.
fn files_below(at: &Path) -> usize {
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .map(|path| match path.is_dir() {
            true => files_below(&path),
            false => 1,
        })
        .sum()
}
