//! `ask-tell` as another program drives it: a real process, killed in the middle of a conversation.

// Helpers of tests stop the test as the tests themselves do.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const SEARCH: &str = "\
hyperparameters:
  x: {type: double, minval: -2, maxval: 2}
  y: {type: double, minval: -2, maxval: 2}
  kind: {type: categorical, vals: [a, b]}
constraints: [\"x + y <= 3\"]
scheduler: {name: hyperband, max_resource: 9}
searcher: {max_trials: 40}
";

/// A conversation with one process.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn begin(folder: &Path, seed: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_coordinatorctl"))
            .args(["ask-tell", "search.yaml", "--log", "record", "--seed"])
            .arg(seed.to_string())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &Value) -> Value {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{line}: {e}: {answer:?}"))
    }

    /// One stretch of one trial; the params that were asked for, or `None` at the end.
    fn step(&mut self) -> Option<Value> {
        let asked = self.say(&json!({"ask": {}}));
        if asked == json!({"done": true}) {
            return None;
        }
        let params = &asked["params"];
        let place = |name: &str| params[name].as_f64().unwrap();
        let kind = f64::from(u8::from(params["kind"] == "a"));
        let cost = place("x").powi(2) + place("y").powi(2) + kind;
        let value = cost + 1.0 / asked["until"].as_f64().unwrap();
        let report = json!({"trial": asked["trial"], "resource": asked["until"], "value": value});
        let told = self.say(&json!({ "report": report }));
        assert!(
            ["pause", "stop"].contains(&told["decision"].as_str().unwrap()),
            "{told}"
        );
        Some(asked)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("search.yaml"), SEARCH).unwrap();
    folder
}

#[test]
fn a_search_that_is_killed_goes_on_as_if_it_had_not_been() {
    let whole = folder();
    let mut talk = Talk::begin(whole.path(), 7);
    let mut asked = Vec::new();
    while let Some(step) = talk.step() {
        asked.push(step);
    }
    assert!(asked.len() > 50, "{}", asked.len());
    talk.kill();

    let cut = folder();
    let mut again = Vec::new();
    'parts: for part in [13, 1, 30, usize::MAX] {
        let mut talk = Talk::begin(cut.path(), 7);
        for _ in 0..part {
            match talk.step() {
                Some(step) => again.push(step),
                None => break 'parts,
            }
        }
        talk.kill();
    }
    assert_eq!(again, asked);
    let record =
        |folder: &tempfile::TempDir| std::fs::read_to_string(folder.path().join("record")).unwrap();
    assert_eq!(record(&cut), record(&whole));
}

#[test]
fn another_seed_is_another_search_and_has_no_place_in_the_record() {
    let folder = folder();
    let mut talk = Talk::begin(folder.path(), 1);
    let _ = talk.step();
    let second = talk.step().unwrap();
    talk.kill();
    let output = Command::new(env!("CARGO_BIN_EXE_coordinatorctl"))
        .args(["ask-tell", "search.yaml", "--log", "record", "--seed", "2"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("records another search"), "{text}");
    let other = self::folder();
    let mut talk = Talk::begin(other.path(), 2);
    let _ = talk.step();
    assert_ne!(talk.step().unwrap()["params"], second["params"]);
    talk.kill();
}
