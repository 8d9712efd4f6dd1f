//! Bad input gets one clear message and a non-zero exit; nothing half-written is taken for whole.

use std::fs;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result};
use trainyard_tests::{Sandbox, example, program, repository, wait_for};

/// A small but complete spec on a CSV of three columns; each case breaks one line of it.
const SPEC: &str = "
name: small
data:
  train: {csv: {url: data.csv, targets: [label]}}
  classes: 2
  shape: [2]
split: {validation: 0.25}
model:
  layers:
    - dense: {units: 4, activation: relu}
    - dense: {units: 2}
training: {epochs: 1, batch_size: 4, optimizer: {adam: {learning_rate: \"${lr}\"}}}
hyperparameters:
  lr: {type: double, minval: 0.0001, maxval: 0.1, log: true}
objectives: [{metric: validation_accuracy, mode: maximize}]
searcher: {name: random, max_trials: 1}
";

fn data() -> String {
    let rows =
        (0..40).map(|i| format!("{},{},{}\n", f64::from(i) / 40.0, i % 7, i32::from(i > 20)));
    format!("x,y,label\n{}", rows.collect::<String>())
}

/// Runs the spec with `old` replaced by `new` and returns what the person is told.
fn told(old: &str, new: &str, csv: &str) -> Result<(i32, String)> {
    assert!(SPEC.contains(old), "{old}");
    let sandbox = Sandbox::new()?;
    sandbox.write("data.csv", csv)?;
    let spec = sandbox.write("job.yaml", &SPEC.replace(old, new))?;
    let answer = sandbox.ctl(&["run", &spec])?;
    assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
    Ok((answer.code, answer.stderr))
}

fn assert_told(answer: (i32, String), code: i32, words: &[&str]) {
    let (found, text) = answer;
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(
            text.contains(word),
            "the message should say {word:?}:\n{text}"
        );
    }
}

#[test]
fn the_unbroken_spec_runs() -> Result<()> {
    let (code, text) = told("name: small", "name: small", &data())?;
    assert_eq!(code, 0, "{text}");
    Ok(())
}

#[test]
fn a_wrong_spec_is_refused_with_path_and_near_word() -> Result<()> {
    let cases: [(&str, &str, &[&str]); 9] = [
        ("epochs: 1", "epoch: 1", &["training.epoch", "epochs"]),
        (
            "minval: 0.0001, maxval: 0.1",
            "minval: 0.1, maxval: 0.0001",
            &["hyperparameters.lr", "0.0001", "0.1"],
        ),
        (
            "activation: relu",
            "activation: rleu",
            &["model.layers[0]", "rleu", "relu"],
        ),
        ("${lr}", "${rl}", &["rl", "lr"]),
        (
            "max_trials: 1",
            "num_samples: 1",
            &["searcher.num_samples", "max_trials"],
        ),
        (
            "batch_size: 4",
            "batch_size: -4",
            &["training.batch_size", "-4"],
        ),
        (
            "validation: 0.25",
            "validation: 1.25",
            &["split.validation", "1.25"],
        ),
        (
            "mode: maximize",
            "mode: max",
            &["objectives[0].mode", "maximize"],
        ),
        (
            "shape: [2]",
            "shape: [1, 1, 2]",
            &["layer", "dense", "flatten"],
        ),
    ];
    for (old, new, words) in cases {
        assert_told(told(old, new, &data())?, 2, words);
    }
    Ok(())
}

#[test]
fn wrong_data_is_refused_with_its_line() -> Result<()> {
    let ragged = data().replacen("\n0.05,2,0\n", "\n0.05,2\n", 1);
    let word = data().replacen("\n0.05,2,0\n", "\n0.05,two,0\n", 1);
    let label = data().replacen("\n0.05,2,0\n", "\n0.05,2,7\n", 1);
    for (csv, words) in [
        (&ragged, &["data.csv", "line 4"][..]),
        (&word, &["data.csv", "line 4", "two", "y"]),
        (&label, &["data.csv", "line 4", "7"]),
        (&String::from("x,y,label\n"), &["data.csv"]),
    ] {
        assert_told(told("name: small", "name: small", csv)?, 1, words);
    }
    assert_told(
        told("url: data.csv", "url: absent.csv", &data())?,
        1,
        &["absent.csv"],
    );
    Ok(())
}

#[test]
fn a_truncated_idx_is_refused() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let images = [
        &[0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 4, 0, 0, 0, 4][..],
        &[7; 100],
    ]
    .concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 10][..], &[1; 10]].concat();
    fs::write(sandbox.path().join("images.idx"), images)?;
    fs::write(sandbox.path().join("labels.idx"), labels)?;
    let spec = SPEC
        .replace(
            "csv: {url: data.csv, targets: [label]}",
            "idx: {features: images.idx, labels: labels.idx}",
        )
        .replace("shape: [2]", "shape: [16]");
    let spec = sandbox.write("job.yaml", &spec)?;
    let answer = sandbox.ctl(&["run", &spec])?;
    assert_told(
        (answer.code, answer.stderr),
        1,
        &["images.idx", "176", "116"],
    );
    Ok(())
}

#[test]
fn a_loss_that_is_not_a_number_fails_the_trial_with_its_step_and_not_the_job() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("data.csv", &data())?;
    // One of the two grid points diverges at once: the plain squared error of 1e30 steps.
    let spec = SPEC
        .replace(
            "{type: double, minval: 0.0001, maxval: 0.1, log: true}",
            "{type: categorical, vals: [0.001, 1.0e30]}",
        )
        .replace("name: random, max_trials: 1", "name: grid")
        .replace("{adam: {", "{sgd: {")
        .replace("epochs: 1", "epochs: 3");
    let spec = sandbox.write("job.yaml", &spec)?;
    let run = sandbox.json(&["run", &spec])?;
    assert_eq!(run["job"]["state"], "completed", "{run:#}");
    assert_eq!(run["trials"][0]["state"], "completed");
    assert_eq!(run["trials"][1]["state"], "failed");
    let error = run["trials"][1]["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(error.contains("step"), "{error}");
    Ok(())
}

#[test]
fn addresses_and_data_directories() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    sandbox.address = "127.0.0.1:9".to_owned();
    let answer = sandbox.ctl(&["list"])?;
    assert_told((answer.code, answer.stderr), 3, &["127.0.0.1:9"]);

    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let answer = sandbox.ctl(&["describe", "no-such-job"])?;
    assert_told((answer.code, answer.stderr), 4, &["no-such-job"]);
    // A second coordinator on the same data.
    let mut second = Sandbox::new()?;
    std::os::unix::fs::symlink(sandbox.path().join("data"), second.path().join("data"))?;
    let error = second
        .coordinator(5_000)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(error.contains("another coordinator"), "{error}");
    Ok(())
}

#[test]
fn a_store_that_is_away_or_not_shared_is_named() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    sandbox.write("data.csv", &data())?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let _worker = sandbox.worker("worker", 1)?;

    // Everybody's own memory is not a place for a cluster's checkpoints.
    let memory = sandbox.write(
        "memory.yaml",
        &format!("{SPEC}checkpoint_storage: {{url: \"memory://x\"}}\n"),
    )?;
    let answer = sandbox.ctl(&["submit", &memory])?;
    assert_told(
        (answer.code, answer.stderr),
        2,
        &["checkpoint_storage.url", "memory://"],
    );

    // A file stands where a folder should be: neither side can write there.
    let blocked = sandbox.write("blocked", "a file")?;
    let spec = sandbox.write(
        "blocked.yaml",
        &format!("{SPEC}checkpoint_storage: {{url: \"file://{blocked}/x\"}}\n"),
    )?;
    let job = sandbox.submit(&spec, &[])?;
    wait_for("the reason to be shown", || {
        let described = sandbox.json(&["describe", &job])?;
        Ok(described["job"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("blocked"))
            .then_some(()))
    })?;

    // Where one person waits, the job ends with the reason.
    let answer = sandbox.ctl(&["run", &spec])?;
    assert_told(
        (answer.code, answer.stderr),
        1,
        &["checkpoint_storage.url", "blocked"],
    );
    Ok(())
}

#[test]
fn a_full_disk_is_said_and_nothing_torn_is_used() -> Result<()> {
    // Every program's files are limited to 4 KiB from the moment the checkpoint folder is written to:
    // RLIMIT_FSIZE makes writes fail as a full disk does. Set by the shell for the worker alone.
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let _worker = sandbox.limited_worker("worker", 4)?;
    let job = sandbox.submit(
        &example("digits.yaml"),
        &[
            "--set",
            "searcher.max_trials=1",
            "--set",
            "training.epochs=1",
            "--set",
            "max_restarts=0",
            "--limit",
            "200",
        ],
    )?;
    let answer = sandbox.ctl(&["wait", &job])?;
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    let trial = &sandbox.trials(&job)?[0];
    assert_eq!(trial["state"], "failed");
    let error = trial["error"].as_str().unwrap_or_default();
    assert!(error.contains("checkpoint"), "{error}");
    assert!(trial["latest_checkpoint"].is_null(), "{trial:#}");
    Ok(())
}

#[test]
fn a_file_that_may_not_grow_is_an_error_of_every_program() -> Result<()> {
    // Too small for a database. The kernel's own way to say so is to kill the process.
    let coordinator = [
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "data",
    ];
    let digits = example("digits.yaml");
    let run = ["coordinatorctl", "run", &digits, "--limit", "200"];
    for command in [&coordinator[..], &run[..]] {
        let (name, arguments) = command.split_first().context("no program")?;
        let sandbox = Sandbox::new()?;
        let output = Command::new("sh")
            .args(["-c", "ulimit -f 8; exec \"$@\"", "sh"])
            .arg(program(name)?)
            .args(arguments)
            .current_dir(sandbox.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{name}: {}: {said}",
            output.status
        );
        assert!(said.contains("File too large"), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn the_reference_and_every_example_validate() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let examples = fs::read_dir(repository().join("examples"))?;
    let mut specs = vec![repository().join("docs/reference.yaml")];
    specs.extend(examples.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    specs.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    assert!(specs.len() >= 5);
    for spec in specs {
        // A search alone is no job.
        let verb = match spec.ends_with("search.yaml") {
            true => "ask-tell",
            false => "validate",
        };
        let answer = sandbox.ctl(&[verb, &spec.display().to_string()])?;
        assert_eq!(answer.code, 0, "{}: {}", spec.display(), answer.stderr);
        writeln!(std::io::stderr(), "{} is valid", spec.display())?;
    }
    Ok(())
}
