//! People's own programs: where they run, what they see and what they may, with real processes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_tests::{Sandbox, program, wait_for};

/// A job of one trial whose program is a shell script.
fn job(sandbox: &Sandbox, script: &str, more: &str) -> Result<String> {
    let spec = serde_json::json!({
        "name": "job",
        "entrypoint": {"command": ["sh", "-c", script]},
        "objectives": [{"metric": "loss", "mode": "minimize"}],
        "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
        "searcher": {"name": "random", "max_trials": 1},
        "max_restarts": 0,
    });
    let mut spec: Value = spec;
    let more: Value = serde_json::from_str(more)?;
    for (name, value) in more.as_object().context("an object")? {
        merge(&mut spec[name], value);
    }
    sandbox.write("job.json", &spec.to_string())
}

fn merge(into: &mut Value, value: &Value) {
    match (into.as_object_mut(), value.as_object()) {
        (Some(known), Some(fields)) => {
            for (name, value) in fields {
                merge(known.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *into = value.clone(),
    }
}

const LOSS: &str = r#"echo '{"metrics": {"loss": 0.5}}'"#;

#[test]
fn programs_run_only_where_they_may() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let _refusing = sandbox.worker_with("refusing", 1, &[], &[])?;
    let programs = |expected: Value| {
        wait_for("the workers", || {
            let list = sandbox.json(&["worker", "list"])?;
            let workers = list["workers"].as_array().context("no workers")?;
            let told: Vec<Value> = workers.iter().map(|w| w["programs"].clone()).collect();
            Ok((Value::from(told) == expected).then_some(()))
        })
    };
    programs(serde_json::json!([false]))?;
    let spec = job(&sandbox, LOSS, "{}")?;
    let submitted = sandbox.ctl(&["submit", &spec])?;
    let way = "no worker runs programs: start one with --programs allow";
    assert!(submitted.stderr.contains(way), "{submitted:?}");
    let id = wait_for("the job", || {
        let jobs = sandbox.json(&["list"])?;
        Ok(jobs["jobs"][0]["job_id"].as_str().map(str::to_owned))
    })?;
    wait_for("the note", || {
        let described = sandbox.json(&["describe", &id])?;
        Ok((described["job"]["note"] == way).then_some(()))
    })?;
    let _allowing = sandbox.worker("allowing", 1)?;
    let job = sandbox.completed(&id)?;
    assert_eq!(job["job"]["best_value"], 0.5, "{job:#}");
    let described = sandbox.json(&["trial", "describe", &id, "0"])?;
    let place = &described["trial"]["attempts"][0]["ranks"][0]["worker_id"];
    let list = sandbox.json(&["worker", "list"])?;
    let workers = list["workers"].as_array().context("no workers")?;
    let runs = workers.iter().find(|worker| worker["programs"] == true);
    assert_eq!(runs.context("nobody allows")?["worker_id"], *place);
    Ok(())
}

/// What the job's programs have printed, and what was said of them; not the scripts that they are.
fn printed(sandbox: &Sandbox, id: &str) -> Result<String> {
    let logs = sandbox.ctl(&["logs", id, "--output", "json"])?;
    ensure!(logs.code == 0, "{logs:?}");
    let mut printed = String::new();
    for line in logs.stdout.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().context("no text")?;
        if !text.starts_with("started `") {
            printed.push_str(text);
            printed.push('\n');
        }
    }
    Ok(printed)
}

/// Waits until the job has ended, however it did.
fn ended(sandbox: &Sandbox, id: &str) -> Result<Value> {
    wait_for(&format!("the end of {id}"), || {
        let described = sandbox.json(&["describe", id])?;
        let state = described["job"]["state"].as_str();
        let ended = matches!(state, Some("completed" | "failed" | "cancelled"));
        Ok(ended.then_some(described))
    })
}

#[test]
fn programs_do_not_see_the_worker_s_keys() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let arguments = ["--programs", "allow", "--pass-environment", "SHOWN_*,ALSO"];
    let environment = [
        ("AWS_SECRET_ACCESS_KEY", "not-for-programs"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "not-for-programs"),
        ("AZURE_STORAGE_KEY", "not-for-programs"),
        ("TRAINYARD_WORKER_NAME", "not-for-programs"),
        ("SOME_TOKEN", "not-for-programs"),
        ("SHOWN_ONE", "1"),
        ("ALSO", "2"),
        ("TZ", "UTC"),
    ];
    let _worker = sandbox.worker_with("worker", 1, &arguments, &environment)?;
    let script = format!("env; {LOSS}");
    let more = r#"{"entrypoint": {"environment": {"MODE": "fast"}}}"#;
    let id = sandbox.submit(&job(&sandbox, &script, more)?, &[])?;
    sandbox.completed(&id)?;
    let seen = printed(&sandbox, &id)?;
    for shown in [
        "SHOWN_ONE=1",
        "ALSO=2",
        "TZ=UTC",
        "MODE=fast",
        "PATH=/",
        "HOME=/",
    ] {
        assert!(seen.contains(shown), "{shown}: {seen}");
    }
    for unseen in ["not-for-programs", "AWS_", "SOME_TOKEN", "CARGO"] {
        assert!(!seen.contains(unseen), "{unseen}: {seen}");
    }
    // Who lacks one of those is told where it is.
    let script = r#"echo "KeyError: 'SOME_TOKEN'" >&2; exit 1"#;
    let (_, error, _) = failed(&sandbox, script, "{}")?;
    assert!(error.contains("--pass-environment SOME_TOKEN"), "{error}");
    Ok(())
}

#[test]
fn a_program_on_one_s_own_machine_sees_what_it_sees_by_hand() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let spec = job(&sandbox, &format!("env > seen; {LOSS}"), "{}")?;
    let run = |more: &[&str]| -> Result<String> {
        let ended = Command::new(program("coordinatorctl")?)
            .args(["run", &spec, "--fresh"])
            .args(more)
            .current_dir(sandbox.path())
            .env("VIRTUAL_ENV", "/venv")
            .env("WANDB_API_KEY", "mine")
            .env("TRAINYARD_SPECIAL", "own")
            .output()?;
        ensure!(ended.status.success(), "{ended:?}");
        Ok(std::fs::read_to_string(sandbox.path().join("seen"))?)
    };
    let all = run(&[])?;
    assert!(all.contains("VIRTUAL_ENV=/venv") && all.contains("WANDB_API_KEY=mine"));
    assert!(!all.contains("TRAINYARD_SPECIAL"), "{all}");
    let few = run(&["--pass-environment", "PATH"])?;
    assert!(
        few.contains("VIRTUAL_ENV=/venv") && !few.contains("WANDB"),
        "{few}"
    );
    Ok(())
}

const VALUE: &str = "only-the-program-knows-this";

/// Every file below a folder, but for those of a folder in it, is without the value.
fn assert_nowhere(folder: &Path, except: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path == except {
            continue;
        }
        if path.is_dir() {
            assert_nowhere(&path, except)?;
        } else if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let found = bytes
                .windows(VALUE.len())
                .any(|part| part == VALUE.as_bytes());
            ensure!(!found, "the secret is in {}", path.display());
        }
    }
    Ok(())
}

#[test]
fn a_secret_reaches_the_program_and_nobody_else() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let secrets = sandbox.path().join("secrets");
    std::fs::create_dir(&secrets)?;
    std::fs::write(secrets.join("wandb-key"), format!("{VALUE}\n"))?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let folder = secrets.display().to_string();
    let arguments = ["--programs", "allow", "--secrets-dir", &folder];
    let _worker = sandbox.worker_with("worker", 1, &arguments, &[])?;
    // Whether it came is told by its digest, and everything else by what is not there.
    let script = format!(
        r#"printf %s "$KEY" | sha256sum; echo "my key: $KEY"; echo "{{\"metrics\": {{\"loss\": 0.5}}}}"
           echo "refused: $KEY" >&2; [ "$(printf %s "$KEY" | wc -c)" = {} ] && exit 3; exit 4"#,
        VALUE.len()
    );
    let more = r#"{"entrypoint": {"environment": {"KEY": {"secret": "wandb-key"}}}}"#;
    let id = sandbox.submit(&job(&sandbox, &script, more)?, &[])?;
    assert_eq!(ended(&sandbox, &id)?["job"]["state"], "failed");
    let trial = sandbox.json(&["trial", "describe", &id, "0"])?;
    let error = trial["trial"]["error"].as_str().context("no error")?;
    assert!(
        error.contains("exit code 3") && error.ends_with("refused: ***"),
        "{error}"
    );
    let told = printed(&sandbox, &id)?;
    assert!(
        told.contains("my key: ***") && told.contains("refused: ***"),
        "{told}"
    );
    assert_nowhere(sandbox.path(), &secrets)?;
    // One that is not there is named.
    let more = r#"{"entrypoint": {"environment": {"KEY": {"secret": "other"}}}}"#;
    let id = sandbox.submit(&job(&sandbox, LOSS, more)?, &[])?;
    assert_eq!(ended(&sandbox, &id)?["job"]["state"], "failed");
    let trial = sandbox.json(&["trial", "describe", &id, "0"])?;
    let error = trial["trial"]["error"].as_str().context("no error")?;
    for word in ["entrypoint.environment.KEY.secret", "`other`", &folder] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // A path is no name.
    let more = r#"{"entrypoint": {"environment": {"KEY": {"secret": "../port"}}}}"#;
    let refused = sandbox.ctl(&["submit", &job(&sandbox, LOSS, more)?])?;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("entrypoint.environment.KEY.secret"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn a_secret_is_there_on_one_s_own_machine_too() -> Result<()> {
    let sandbox = Sandbox::new()?;
    std::fs::create_dir(sandbox.path().join("secrets"))?;
    std::fs::write(sandbox.path().join("secrets/key"), VALUE)?;
    let script = format!(r#"[ "$KEY" = {VALUE} ] && {LOSS}"#);
    let more = r#"{"entrypoint": {"environment": {"KEY": {"secret": "key"}}}}"#;
    let spec = job(&sandbox, &script, more)?;
    let run = sandbox.json(&["run", &spec, "--secrets-dir", "secrets"])?;
    assert_eq!(run["job"]["best_value"], 0.5, "{run:#}");
    Ok(())
}

/// What each rank has logged: its number, the level and the text.
fn lines(sandbox: &Sandbox, id: &str) -> Result<Vec<(u64, String, String)>> {
    let logs = sandbox.ctl(&["logs", id, "--output", "json"])?;
    ensure!(logs.code == 0, "{logs:?}");
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    logs.stdout
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line)?;
            let rank = line["rank"].as_u64().context("no rank")?;
            Ok((rank, text(&line, "level"), text(&line, "text")))
        })
        .collect()
}

#[test]
fn a_rank_that_ends_since_another_did_says_so_before_its_last_words() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let _worker = sandbox.worker("worker", 2)?;
    // As PyTorch does where the connection to a peer is closed, but for what it waits for.
    let script = r#"if [ "$RANK" = 1 ]; then
             until [ -e "$TOGETHER" ]; do sleep 0.05; done; kill -9 $$
           fi
           trap 'echo "RuntimeError: connection closed by peer" >&2; exit 1' TERM
           : > "$TOGETHER"; while :; do sleep 0.05; done"#;
    let more = serde_json::json!({
        "resources": {"slots_per_trial": 2},
        "entrypoint": {"environment": {"TOGETHER": sandbox.path().join("together")}},
    });
    let id = sandbox.submit(&job(&sandbox, script, &more.to_string())?, &[])?;
    assert_eq!(ended(&sandbox, &id)?["job"]["state"], "failed");
    let traceback = "RuntimeError: connection closed by peer";
    let lines = wait_for("the last words", || {
        let lines = lines(&sandbox, &id)?;
        Ok(lines
            .iter()
            .any(|(.., text)| text == traceback)
            .then_some(lines))
    })?;
    let at = |wanted: &str| {
        let mut lines = lines.iter();
        lines.position(|(rank, _, text)| *rank == 0 && text.starts_with(wanted))
    };
    let told = at("told to stop: rank 1 failed: the program was killed by signal 9");
    let told = told.with_context(|| format!("nothing is told: {lines:?}"))?;
    let said = at(traceback).context("no last words")?;
    assert!(told < said, "{lines:?}");
    // Its own words are its log, as what it writes on standard error is.
    assert_eq!(
        (lines[told].1.as_str(), lines[said].1.as_str()),
        ("info", "warn")
    );
    Ok(())
}

/// The folder with a running program's socket, as the program prints it.
fn socket_folder(sandbox: &Sandbox, id: &str) -> Result<PathBuf> {
    wait_for("the program's socket", || {
        let printed = printed(sandbox, id)?;
        let socket = printed
            .lines()
            .find_map(|line| line.strip_prefix("socket: "));
        Ok(socket.and_then(|socket| Path::new(socket).parent().map(Path::to_owned)))
    })
}

#[test]
fn what_a_killed_worker_leaves_goes_with_the_next_one_s_start() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(2_000)?;
    let script = r#"echo "socket: $TRAINYARD_CHANNEL"; sleep 600"#;
    // With a path that is too long for sockets, which then lie elsewhere.
    for name in ["short".to_owned(), "long".repeat(25)] {
        let id = sandbox.submit(&job(&sandbox, script, "{}")?, &[])?;
        let scratch = sandbox.path().join(&name);
        let arguments = ["--programs", "allow", "--scratch-dir"];
        let folder = scratch.display().to_string();
        let arguments: Vec<&str> = arguments.into_iter().chain([&*folder]).collect();
        let worker = sandbox.worker_with(&name[..5], 1, &arguments, &[])?;
        let left = socket_folder(&sandbox, &id)?;
        assert_eq!(left.starts_with(scratch.canonicalize()?), name == "short");
        worker.kill()?;
        assert!(left.exists());
        let next = format!("after-{}", &name[..5]);
        let next = sandbox.worker_with(&next, 1, &arguments, &[])?;
        wait_for("the leftovers to go", || Ok((!left.exists()).then_some(())))?;
        sandbox.ctl(&["cancel", &id])?;
        next.kill()?;
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let told = Command::new("id").arg("-u").output()?;
    Ok(told.stdout.trim_ascii() == b"0")
}

/// Says what its user may, makes a checkpoint and names another that is the worker's; then goes on from the first.
fn script_of_a_user(private: &Path) -> String {
    format!(
        r#"echo "user $(id -un), groups $(id -G), home $HOME, $USER"
           cat {0}/w && echo "saw the worker's file"
           [ -w "$TRAINYARD_CHANNEL" ] && echo "the channel is mine"
           echo "opened anew" > /dev/stdout
           if [ -n "$TRAINYARD_RESTORE_DIR" ]; then
             echo "restored $(cat "$TRAINYARD_RESTORE_DIR/w")"
             echo more > "$TRAINYARD_RESTORE_DIR/w" && echo "the copy is mine"
             exit
           fi
           mkdir "$TRAINYARD_CHECKPOINT_DIR/one"; echo weights > "$TRAINYARD_CHECKPOINT_DIR/one/w"
           echo "{{\"metrics\": {{\"loss\": 0.5}}, \"epoch\": 1, \"checkpoint\": \"$TRAINYARD_CHECKPOINT_DIR/one\"}}"
           echo "{{\"metrics\": {{\"loss\": 0.4}}, \"epoch\": 2, \"checkpoint\": \"{0}\"}}"
           left="$TRAINYARD_CHECKPOINT_DIR/left"
           setsid sh -c "echo > '$left'; exec sleep 1000" &
           until [ -e "$left" ]; do sleep 0.01; done
           exit 1"#,
        private.display()
    )
}

#[test]
fn programs_run_as_the_user_that_the_worker_was_told() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let refused = Command::new(program("worker")?)
        .args(["--program-user", "no-such-user-here"])
        .output()?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("program_user"), "{told}");
    if !is_root()? {
        assert!(told.contains("a worker of root"), "{told}");
        eprintln!("skipped: only root can start programs as another user");
        return Ok(());
    }
    let folder = sandbox.path().to_owned();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711))?;
    let private = folder.join("private");
    std::fs::create_dir(&private)?;
    std::fs::write(private.join("w"), VALUE)?;
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700))?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let scratch = folder.join("scratch").display().to_string();
    let arguments = [
        "--programs",
        "allow",
        "--program-user",
        "nobody",
        "--scratch-dir",
        &scratch,
    ];
    let _worker = sandbox.worker_with("worker", 1, &arguments, &[])?;
    let script = script_of_a_user(&private);
    let more = r#"{"max_restarts": 1, "retry_backoff": {"first": 0.1, "cap": 0.1}}"#;
    let id = sandbox.submit(&job(&sandbox, &script, more)?, &[])?;
    sandbox.completed(&id)?;
    let told = printed(&sandbox, &id)?;
    for line in [
        "user nobody, groups ",
        "the channel is mine",
        "opened anew",
        "restored weights",
        "the copy is mine",
        "1 processes that had left",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let own = Command::new("id").args(["-G", "nobody"]).output()?;
    let first = String::from_utf8_lossy(&own.stdout).into_owned();
    let first = first.split_whitespace().next().context("no group")?;
    assert!(told.contains(&format!("groups {first}, home")), "{told}");
    assert!(
        !told.contains("saw the worker's file") && !told.contains(VALUE),
        "{told}"
    );
    // What it named and could not read itself was refused, and its own checkpoint was kept.
    let refusal = format!("checkpoint {}: ", private.display());
    let refused = told.lines().find(|line| line.starts_with(&refusal));
    assert!(
        refused.is_some_and(|line| line.contains("cannot be read")),
        "{told}"
    );
    let list = sandbox.json(&["checkpoint", "list", &id])?;
    let checkpoints = list["checkpoints"].as_array().context("no checkpoints")?;
    assert_eq!(checkpoints.len(), 1, "{list:#}");
    Ok(())
}

/// How the only trial of a job ended: the failure's kind, and its error.
fn failed(sandbox: &Sandbox, script: &str, more: &str) -> Result<(String, String, String)> {
    let id = sandbox.submit(&job(sandbox, script, more)?, &[])?;
    assert_eq!(ended(sandbox, &id)?["job"]["state"], "failed");
    let trial = sandbox.json(&["trial", "describe", &id, "0"])?;
    let attempt = &trial["trial"]["attempts"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((
        text(&attempt["outcome"]),
        text(&attempt["error"]),
        printed(sandbox, &id)?,
    ))
}

#[test]
fn what_a_program_takes_is_bounded() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let arguments = [
        "--programs",
        "allow",
        "--program-memory-bytes",
        "200000000",
        "--program-processes",
        "12",
        "--program-open-files",
        "77",
    ];
    let worker = sandbox.worker_with("worker", 1, &arguments, &[])?;
    // A child takes the memory, not the program itself.
    let script =
        "python3 -c 'import time; taken = bytearray(400_000_000); time.sleep(1000)' & wait";
    let (outcome, error, _) = failed(&sandbox, script, "{}")?;
    assert_eq!(outcome, "out_of_memory", "{error}");
    assert!(
        error.contains("--program-memory-bytes") && error.contains("200000000"),
        "{error}"
    );
    // What processes share counts once: five of 60 MB, which they have from their parent.
    let script = format!(
        "exec python3 -c '
import os, time
taken = bytearray(60_000_000)
for number in range(5):
    if not os.fork():
        time.sleep(1000)
time.sleep(2)
print(\"\"\"{}\"\"\", flush=True)
'",
        r#"{"metrics": {"loss": 0.5}}"#.replace('"', "\\\"")
    );
    let id = sandbox.submit(&job(&sandbox, &script, "{}")?, &[])?;
    sandbox.completed(&id)?;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 1000 & done; wait";
    let (outcome, error, _) = failed(&sandbox, script, "{}")?;
    assert_eq!(outcome, "error");
    assert!(
        error.contains("--program-processes") && error.contains("have 12"),
        "{error}"
    );
    let (outcome, _, told) = failed(
        &sandbox,
        "echo files $(ulimit -n) $(ulimit -Hn); exit 1",
        "{}",
    )?;
    assert_eq!(outcome, "error");
    assert!(told.contains("files 77 77"), "{told}");
    worker.kill()?;
    let arguments = ["--programs", "allow", "--program-time", "1"];
    let _worker = sandbox.worker_with("another", 1, &arguments, &[])?;
    let script = "trap 'echo got SIGTERM' TERM; echo began; while true; do sleep 0.1; done";
    let more = r#"{"entrypoint": {"stop_grace": 1}}"#;
    let (outcome, error, told) = failed(&sandbox, script, more)?;
    assert_eq!(outcome, "error");
    assert!(
        error.contains("--program-time") && error.contains("1 s"),
        "{error}"
    );
    // It was asked first, and did not end.
    assert!(
        told.contains("got SIGTERM") && told.contains("SIGKILL"),
        "{told}"
    );
    Ok(())
}
