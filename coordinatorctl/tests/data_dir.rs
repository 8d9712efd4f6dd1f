//! What `run` leaves in its data directory: moved, copied, and worked on by other verbs.

// Helpers of tests stop the test as the tests themselves do.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For a condition; machines are shared and slow.
const PATIENCE: Duration = Duration::from_secs(180);

const SPEC: &str = r#"
name: toy
data:
  train: {csv: {url: toy.csv, targets: [label]}}
  shape: [2]
  classes: 2
model:
  layers: [{dense: {units: 2, activation: softmax}}]
training: {batch_size: 8, epochs: EPOCHS, optimizer: {sgd: {learning_rate: "${lr}"}}}
hyperparameters: {lr: {type: double, minval: 0.001, maxval: 0.1}}
objectives: [{metric: validation_loss, mode: minimize}]
searcher: {name: random, max_trials: 1}
"#;

/// A folder with a job of so many epochs.
fn folder(epochs: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let spec = SPEC.replace("EPOCHS", &epochs.to_string());
    std::fs::write(folder.path().join("toy.yaml"), spec).unwrap();
    let mut rows = "a,b,label\n".to_owned();
    for row in 0..40 {
        writeln!(rows, "0.{row},0.{},{}", 90 - row, row % 2).unwrap();
    }
    std::fs::write(folder.path().join("toy.csv"), rows).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatorctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("TRAINYARD_COORDINATOR")
        .env_remove("TRAINYARD_LOG")
        .stdin(Stdio::null());
    command
}

fn ctl(folder: &Path, arguments: &[&str]) -> Output {
    let output = command(folder, arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    output
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    let output = ctl(folder, &arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// All files below a folder.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

fn copy(folder: &Path, from: &str, to: &str) {
    let copied = Command::new("cp")
        .args(["-r", from, to])
        .current_dir(folder)
        .status();
    assert!(copied.unwrap().success());
}

/// Whether a checkpoint of the job's attempt with this number (from 1) lies below a folder.
fn has_checkpoint(folder: &Path, attempt: u32) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let manifest = format!("-{attempt}.json");
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        path.to_string_lossy().ends_with(&manifest)
            || (path.is_dir() && has_checkpoint(&path, attempt))
    })
}

/// Runs the job, and interrupts it once its attempt with this number has stored a checkpoint.
fn run_to_a_checkpoint(folder: &Path, arguments: &[&str], data: &str, attempt: u32) {
    let mut run = command(folder, arguments);
    let run = run.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = run.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !has_checkpoint(&folder.join(data).join("checkpoints"), attempt) {
        assert!(run.try_wait().unwrap().is_none(), "it has ended by itself");
        assert!(Instant::now() < deadline, "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = run.id().to_string();
    let told = Command::new("kill").args(["-INT", &pid]).status();
    assert!(told.unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
}

#[test]
fn deleting_a_copys_job_leaves_the_originals_checkpoints() {
    let folder = folder(2);
    let folder = folder.path();
    ctl(folder, &["run", "toy.yaml", "--data-dir", "first"]);
    let stored = files(&folder.join("first/checkpoints"));
    assert!(stored > 0);
    copy(folder, "first", "second");
    let listed = json(
        folder,
        &["checkpoint", "list", "toy-1", "--data-dir", "second"],
    );
    let url = listed["checkpoint_url"].as_str().unwrap();
    assert!(url.contains("/second/checkpoints/toy-1"), "{url}");
    ctl(
        folder,
        &["delete", "toy-1", "--checkpoints", "--data-dir", "second"],
    );
    assert_eq!(files(&folder.join("second/checkpoints")), 0);
    assert_eq!(files(&folder.join("first/checkpoints")), stored);
    let verified = ctl(
        folder,
        &["checkpoint", "verify", "toy-1", "--data-dir", "first"],
    );
    assert!(!verified.stdout.is_empty());
}

#[test]
fn a_moved_directory_goes_on_from_its_checkpoints() {
    let folder = folder(1_000_000);
    let folder = folder.path();
    let run = ["run", "toy.yaml", "--data-dir", "first"];
    run_to_a_checkpoint(folder, &run, "first", 1);
    std::fs::rename(folder.join("first"), folder.join("second")).unwrap();
    let again = ["run", "toy.yaml", "--resume", "--data-dir", "second"];
    run_to_a_checkpoint(folder, &again, "second", 2);
    let asked = ["trial", "describe", "toy-1", "0", "--data-dir", "second"];
    let trial = json(folder, &asked);
    let from_step = trial["trial"]["attempts"][1]["from_step"].as_u64();
    assert!(from_step > Some(0), "the trial began anew: {trial}");
    assert!(!folder.join("first").exists(), "nothing is written there");
}

/// What `delete` and `archive` say is done when they return, as nothing goes on afterwards.
#[test]
fn what_is_deleted_or_archived_without_a_coordinator_is_gone_when_the_verb_returns() {
    let folder = folder(2);
    let folder = folder.path();
    for _ in 0..2 {
        ctl(folder, &["run", "toy.yaml", "--fresh"]);
    }
    let data = ["--data-dir", "trainyard-data"];
    let with = |arguments: &[&'static str]| [arguments, &data].concat();
    let archived = json(folder, &with(&["archive", "toy-2"]));
    assert_eq!(archived["archived"], true, "{archived}");
    let archives = folder.join("trainyard-data/archives/toy-2");
    let whole = files(&archives);
    assert!(whole > 0);
    ctl(folder, &with(&["delete", "toy-1", "--checkpoints"]));
    for (place, left) in [("checkpoints/toy-1", false), ("checkpoints/toy-2", true)] {
        let (checkpoints, name) = place.split_once('/').unwrap();
        let of_job = std::fs::read_dir(folder.join("trainyard-data").join(checkpoints)).unwrap();
        let of_job = of_job.map(|entry| entry.unwrap().path()).filter(|path| {
            let found = path.file_name().unwrap().to_string_lossy();
            found.starts_with(name)
        });
        let count: usize = of_job.map(|path| files(&path)).sum();
        assert_eq!(count > 0, left, "{place}");
    }
    ctl(folder, &with(&["delete", "toy-2"]));
    assert_eq!(files(&archives), 0);
    let jobs = json(folder, &with(&["list"]));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 0);
}
