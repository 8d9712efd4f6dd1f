//! The program as a shell sees it: exit codes, what goes to which stream, and the help.

// Helpers of tests stop the test as the tests themselves do.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const SPEC: &str = r#"
name: toy
data:
  train: {csv: {url: toy.csv, targets: [label]}}
  shape: [2]
  classes: 2
model:
  layers:
    - dense: {units: "${units}", activation: relu}
    - dense: {units: 2, activation: softmax}
training: {batch_size: 8, epochs: 2, optimizer: {adam: {learning_rate: "${lr}"}}}
hyperparameters:
  units: {type: categorical, vals: [4, 8]}
  lr: {type: double, minval: 0.001, maxval: 0.1, log: true}
objectives: [{metric: validation_loss, mode: minimize}]
searcher: {name: random, max_trials: 4}
"#;

fn ctl(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatorctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("TRAINYARD_COORDINATOR")
        .env_remove("TRAINYARD_LOG")
        .env("COLUMNS", "100")
        .stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A folder with `toy.yaml`, changed as told.
fn folder(old: &str, new: &str) -> tempfile::TempDir {
    assert!(SPEC.contains(old), "{old}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("toy.yaml"), SPEC.replace(old, new)).unwrap();
    folder
}

#[test]
fn the_help_names_every_verb_option_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let help = ctl(folder.path(), &["--help"]);
    assert_eq!(code(&help), 0);
    let expected = "\
Train and search on one machine, or drive a Trainyard cluster

Usage: coordinatorctl [OPTIONS] <COMMAND>

Commands:
  run         Train a job on this machine, from the spec to the judged model
  submit      Submit a job to a coordinator and print its id
  validate    Check a job spec; every error at once, each with its place in the file
  preview     Show the first configurations that the search will try
  ask-tell    Drive a search from your own program, over lines of JSON
  schema      Print the JSON Schema of a job spec, for editors
  model       Look at the network of a job
  list        List jobs, the newest first
  describe    Show a job, its trials and (with --output json) its resolved spec
  watch       Watch a job until it has ended
  logs        Print the log lines of a job's trials
  wait        Wait until a job has ended; the exit code says how
  best        Show a job's best trial: configuration, metrics and where its checkpoint lies
  insight     Show what a search has found out: which hyperparameters matter, the best so far
  cancel      Cancel a job: its running trials stop, no new ones begin
  archive     Move an ended job from the coordinator's records into an archive in the store
  delete      Remove an ended job for good: its records, learning curves, logs and archive
  extend      Add trials or time to a search that goes on or has completed
  pause       Pause a job: its running trials make a checkpoint and stop, no new ones begin
  resume      Let a paused job go on, each trial from its checkpoint
  replay      Replay a job's search from its log, and say whether it decides the same
  trial       Look at the trials of a job
  checkpoint  Look at, fetch and check the checkpoints of a job
  artifact    Look at and fetch what the programs of a job have kept
  worker      Look at the workers of a cluster, and empty them
  workspace   Look at workspaces, and set their shares and quotas
  completion  Print a completion script, such as for `source <(coordinatorctl completion bash)`
  help        Print this message or the help of the given subcommand(s)
";
    let text = out(&help);
    assert!(text.starts_with(expected), "{text}");
    for part in [
        "--output",
        "--coordinator",
        "--data-dir",
        "--log-level",
        "Exit codes:",
        "130",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn no_verb_or_a_wrong_one_is_bad_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["lst"], &["wait"], &["list", "--output", "xml"]] {
        let output = ctl(folder.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(out(&output), "", "{arguments:?}");
    }
    let near = err(&ctl(folder.path(), &["lst"]));
    assert!(near.contains("list"), "{near}");
}

#[test]
fn an_unreachable_coordinator_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let begin = std::time::Instant::now();
    for verb in [
        &["list"][..],
        &["cancel", "a-1"],
        &["watch", "a-1"],
        &["worker", "list"],
    ] {
        let output = ctl(
            folder.path(),
            &[verb, &["--coordinator", &address]].concat(),
        );
        assert_eq!(code(&output), 3, "{verb:?}");
        assert_eq!(out(&output), "");
        let message = err(&output);
        assert!(message.contains(&address), "{message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn a_data_directory_without_jobs_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let output = ctl(folder.path(), &["list", "--data-dir", "nowhere"]);
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains("nowhere"));
    assert!(
        !folder.path().join("nowhere").exists(),
        "asking must not make it"
    );
    let folder = self::folder("name: toy", "name: toy");
    let output = ctl(folder.path(), &["run", "toy.yaml", "--resume"]);
    assert_eq!(code(&output), 2, "{}", err(&output));
    assert!(
        err(&output).contains("nothing to resume"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_good_spec_validates_and_previews() {
    let folder = folder("name: toy", "name: toy");
    let output = ctl(folder.path(), &["validate", "toy.yaml", "--output", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(json(&output)["valid"], true);
    let preview = ["preview", "toy.yaml", "-n", "3", "--output", "json"];
    let output = ctl(folder.path(), &preview);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let shown = json(&output);
    assert_eq!(shown["trials_expected"], 4);
    let rows = shown["configurations"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["trial_id"], index);
        let lr = row["params"]["lr"].as_f64().unwrap();
        assert!((0.001..=0.1).contains(&lr), "{row}");
    }
    assert_eq!(
        json(&ctl(folder.path(), &preview)),
        shown,
        "the same every time"
    );
    let text = out(&ctl(folder.path(), &["preview", "toy.yaml", "-n", "2"]));
    let first: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["TRIAL", "units", "lr"]);
}

#[test]
fn a_search_without_a_trainer_previews() {
    let folder = tempfile::tempdir().unwrap();
    let search = "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n\
                  scheduler: {name: hyperband, max_resource: 9}\n";
    std::fs::write(folder.path().join("search.yaml"), search).unwrap();
    let preview = ["preview", "search.yaml", "-n", "2", "--output", "json"];
    let shown = json(&ctl(folder.path(), &preview));
    assert_eq!(shown["configurations"].as_array().unwrap().len(), 2);
    assert_eq!(shown["trials_expected"], Value::Null);
    let simulate = ["preview", "search.yaml", "--simulate"];
    let endless = ctl(folder.path(), &simulate);
    assert_eq!(code(&endless), 2);
    assert!(err(&endless).contains("searcher.max_trials"));
    let finite = "hyperparameters={x: {type: categorical, vals: [a, b, c]}}";
    let ends = ["--set", finite, "--output", "json"];
    let forecast = json(&ctl(folder.path(), &[&simulate[..], &ends].concat()));
    assert_eq!(forecast["trials"], 3);
    let few = ["--set", "searcher.max_trials=30", "--output", "json"];
    let forecast = json(&ctl(folder.path(), &[&simulate[..], &few].concat()));
    assert_eq!(forecast["trials"], 30);
    let limited = ctl(folder.path(), &["preview", "search.yaml", "--limit", "5"]);
    assert_eq!(code(&limited), 2);
    assert!(
        err(&limited).starts_with("error: --limit"),
        "{}",
        err(&limited)
    );
}

#[test]
fn a_bad_spec_tells_every_error_with_its_path() {
    let folder = folder("epochs: 2, optimizer", "epoch: 2, optimiser");
    for verb in ["validate", "preview", "run", "submit"] {
        let output = ctl(folder.path(), &[verb, "toy.yaml"]);
        assert_eq!(code(&output), 2, "{verb}: {}", err(&output));
        let message = err(&output);
        for path in ["training.epoch", "training.optimiser"] {
            assert!(message.contains(path), "{verb}: {message}");
        }
        assert_eq!(out(&output), "", "{verb}");
    }
    let output = ctl(folder.path(), &["validate", "toy.yaml", "--output", "json"]);
    assert_eq!(code(&output), 2);
    let shown = json(&output);
    assert_eq!(shown["valid"], false);
    let paths: Vec<&str> = shown["errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|error| error["path"].as_str())
        .collect();
    assert!(paths.contains(&"training.epoch"), "{paths:?}");
    assert!(
        !folder.path().join("trainyard-data").exists(),
        "nothing was begun"
    );
}

#[test]
fn set_and_limit_change_the_spec() {
    let folder = folder("name: toy", "name: toy");
    let bad = ["validate", "toy.yaml", "--set", "training.epochs=none"];
    let output = ctl(folder.path(), &bad);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("training.epochs"), "{}", err(&output));
    let output = ctl(folder.path(), &["validate", "toy.yaml", "--limit", "0"]);
    assert_eq!(code(&output), 2, "{}", out(&output));
    assert!(
        err(&output).contains("training.limit_samples"),
        "{}",
        err(&output)
    );
    let fewer = [
        "preview",
        "toy.yaml",
        "--set",
        "searcher.max_trials=2",
        "--output",
        "json",
    ];
    assert_eq!(json(&ctl(folder.path(), &fewer))["trials_expected"], 2);
}

#[test]
fn a_spec_may_come_from_standard_input() {
    let folder = folder("name: toy", "name: toy");
    let mut child = command(folder.path(), &["validate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(SPEC.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_model_is_summed_up() {
    let folder = folder("name: toy", "name: toy");
    let arguments = [
        "model", "summary", "toy.yaml", "--params", "units=8", "--output", "json",
    ];
    let output = ctl(folder.path(), &arguments);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let summary = json(&output);
    assert_eq!(summary["params"]["units"], 8);
    assert_eq!(summary["input_shape"], serde_json::json!([2]));
    assert_eq!(summary["layers"][0]["output_shape"], serde_json::json!([8]));
    // 2 * 8 + 8 and 8 * 2 + 2.
    assert_eq!(summary["layers"][0]["parameters"], 24);
    assert_eq!(summary["parameters"], 42);
    let wrong = ["model", "summary", "toy.yaml", "--params", "unit=8"];
    let output = ctl(folder.path(), &wrong);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("`units`"), "{}", err(&output));
}

#[test]
fn the_schema_is_json_and_a_reader_that_leaves_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let schema = json(&ctl(folder.path(), &["schema"]));
    assert!(schema["properties"]["searcher"].is_object(), "{schema:#}");
    for verb in [&["schema"][..], &["completion", "bash"]] {
        let mut child = command(folder.path(), verb)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed before anything is read: as `| head -0` does.
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{verb:?}: {said}");
        assert_eq!(said, "", "{verb:?}");
    }
}

#[test]
fn what_a_file_names_gives_no_orders_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("{SPEC}\"\\e[2J\\e]0;title\\a\\u202E\": 1\nworkspace: \"a\\x9bb\"\n");
    std::fs::write(folder.path().join("job.yaml"), spec).unwrap();
    let output = ctl(folder.path(), &["validate", "job.yaml"]);
    assert_eq!(code(&output), 2);
    let said = err(&output);
    assert!(
        said.contains(r"unknown field `\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}`"),
        "{said}"
    );
    let output = ctl(folder.path(), &["validate", "job.yaml", "--output", "json"]);
    let hidden = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    for text in [said, out(&output)] {
        assert!(!text.contains(hidden), "{text:?}");
    }
    let errors = json(&output)["errors"].as_array().cloned().unwrap();
    let places: Vec<&str> = errors
        .iter()
        .filter_map(|error| error["path"].as_str())
        .collect();
    assert!(
        places.contains(&"\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}"),
        "{places:?}"
    );
}

#[test]
fn many_problems_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let keys: String = (0..2_000).map(|i| format!("k{i}: 1\n")).collect();
    std::fs::write(folder.path().join("job.yaml"), format!("{SPEC}{keys}")).unwrap();
    let output = ctl(folder.path(), &["validate", "job.yaml"]);
    assert_eq!(code(&output), 2);
    let said = err(&output);
    assert_eq!(said.lines().count(), 22, "{said}");
    assert_eq!(said.lines().last().unwrap().trim(), "and 1980 more");
}

#[test]
fn what_a_job_ships_is_looked_at_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let spec = |more: &str| {
        let spec = format!(
            "name: shipped\nentrypoint: {{command: [python3, train.py, left.yaml], ship: code{more}}}\n\
             objectives: [{{metric: loss, mode: minimize}}]\n"
        );
        std::fs::write(root.join("job.yaml"), spec).unwrap();
    };
    spec("");
    for verb in ["validate", "preview"] {
        let missing = ctl(root, &[verb, "job.yaml"]);
        assert_eq!(code(&missing), 2);
        let told = err(&missing);
        assert!(
            told.contains("entrypoint.ship: ") && told.contains("code: No such"),
            "{told}"
        );
    }
    let invalid = json(&ctl(root, &["validate", "job.yaml", "--output", "json"]));
    assert_eq!(invalid["valid"], false);
    assert_eq!(invalid["errors"][0]["path"], "entrypoint.ship");
    std::fs::create_dir(root.join("code")).unwrap();
    let empty = ctl(root, &["validate", "job.yaml"]);
    assert_eq!(code(&empty), 2);
    assert!(err(&empty).contains("there is nothing in it"), "{empty:?}");
    for name in ["train.py", "left.yaml"] {
        std::fs::write(root.join("code").join(name), "1234").unwrap();
    }
    let whole = ctl(root, &["validate", "job.yaml"]);
    assert_eq!(
        (code(&whole), out(&whole).as_str()),
        (0, "job.yaml is valid\n")
    );
    assert_eq!(err(&whole), "ships 2 files, 8 B\n");
    spec(", exclude: [left.yaml]");
    let left = ctl(root, &["preview", "job.yaml", "-n", "1"]);
    assert_eq!(code(&left), 0);
    let told = err(&left);
    assert!(
        told.contains("ships 1 files, 4 B") && told.contains("`left.yaml`, which stays behind"),
        "{told}"
    );
    let left = json(&ctl(root, &["validate", "job.yaml", "--output", "json"]));
    assert_eq!(left["ships"], serde_json::json!({"files": 1, "bytes": 4}));
    assert!(
        left["warnings"][0].as_str().unwrap().contains("left.yaml"),
        "{left}"
    );
    let sparse = std::fs::File::create(root.join("code/large.bin")).unwrap();
    sparse.set_len(80 << 20).unwrap();
    let told = err(&ctl(root, &["validate", "job.yaml"]));
    assert!(
        told.contains("max_bundle_mib") && told.contains("large.bin (80.0 MiB)"),
        "{told}"
    );
}
