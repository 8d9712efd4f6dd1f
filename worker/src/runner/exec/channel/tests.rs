//! Programs in Python's standard library that speak over the channel, each to its end.

use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::{AttemptOutcome, CheckpointRef, report::Body};

use crate::attempt::Stop;
use crate::runner::testing::{Ran, Run, assignment, exec_spec, run_alone, run_assignment};

/// What any program needs.
const CLIENT: &str = r#"
import json, os, socket, sys
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["TRAINYARD_CHANNEL"])
    return s.makefile("rwb")
def say(f, **message):
    f.write(json.dumps(message).encode() + b"\n")
    f.flush()
def hear(f):
    return json.loads(f.readline())
def ask(f, **message):
    say(f, **message)
    while True:
        # What nobody has asked for may come before the answer.
        answer = hear(f)
        if answer.get("id") == message.get("id") or answer["type"] == "error":
            return answer
def hello(f):
    return ask(f, type="hello", version=1, token=os.environ["TRAINYARD_TOKEN"])
def told(*words):
    print(*words, flush=True)
"#;

fn python(script: &str) -> TrialSpec {
    let mut spec = exec_spec(&["python3", "-c", &format!("{CLIENT}{script}")]);
    let space = r#"{"lr": {"type": "double", "minval": 0, "maxval": 1},
        "momentum": {"type": "const", "val": 0.9}}"#;
    spec.job.hyperparameters = serde_json::from_str(space).unwrap();
    spec
}

async fn run(script: &str, prepare: impl FnOnce(&mut Run)) -> Ran {
    run_alone(python(script), prepare).await
}

fn positions(ran: &Ran) -> Vec<(u64, u64)> {
    ran.progress().iter().map(|p| (p.epoch, p.step)).collect()
}

#[tokio::test]
async fn a_program_is_welcomed_and_its_requests_are_answered() {
    let ran = run(
        r#"
f = connect()
w = hello(f)
told("welcome", w["type"], w["version"], w["job_id"], w["trial_id"], w["attempt"], w["rank"], w["world_size"],
     w["seed"], w["params"], w["hyperparameters"], w["until_epoch"], w["restore"], w["stop"], w["stop_grace_s"])
told("first", ask(f, type="report", id=1, metrics={"loss": 0.5, "acc": float("nan")}, epoch=1, step=10))
say(f, type="report", metrics={"loss": 0.25})
told("asked", ask(f, type="should_stop", id="a"))
told("wrong", ask(f, type="report", id=2, metrics={"loss": "x"}))
told("unknown", ask(f, type="metric", id=3))
told("alive", ask(f, type="progress", fraction=0.5, id=4))
print(json.dumps({"metrics": {"loss": 9}}))
"#,
        |_| {},
    )
    .await;
    assert_eq!(
        ran.end.outcome,
        AttemptOutcome::Completed,
        "{:?} {}",
        ran.end,
        ran.log()
    );
    // With an epoch once, the next belongs to it.
    assert_eq!(positions(&ran), [(1, 10), (1, 11)], "{}", ran.log());
    assert!(
        ran.progress()[0]
            .metrics
            .iter()
            .any(|metric| metric.value.is_nan())
    );
    for line in [
        "welcome welcome 1 job-1 3 0 0 1 77 {'lr': 0.5} ['lr', 'momentum'] None None None 30.0",
        "first {'type': 'ok', 'id': 1}",
        "asked {'type': 'stop', 'id': 'a', 'reason': None}",
        "alive {'type': 'ok', 'id': 4}",
    ] {
        assert!(
            ran.log().lines().any(|told| told == line),
            "{line}: {}",
            ran.log()
        );
    }
    for words in ["metrics.loss is \"x\"", "type is \"metric\", accepted are"] {
        assert_eq!(
            ran.log().matches(words).count(),
            2,
            "answered and logged: {}",
            ran.log()
        );
    }
}

#[tokio::test]
async fn what_was_said_right_before_the_end_counts() {
    let script = r#"
f = connect()
f.write(json.dumps({"type": "hello", "version": 1, "token": os.environ["TRAINYARD_TOKEN"]}).encode() + b"\n")
for n in range(1000):
    f.write(json.dumps({"type": "report", "metrics": {"loss": n}}).encode() + b"\n")
f.flush()
os._exit(0)
"#;
    let ran = run(script, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{}", ran.log());
    assert_eq!((ran.end.step, ran.progress().len()), (1000, 1000));
}

#[tokio::test]
async fn who_is_not_of_the_attempt_is_told_and_turned_away() {
    let ran = run(
        r#"
for first in [dict(type="hello", version=1, token="x"), dict(type="hello", version=2, token=os.environ["TRAINYARD_TOKEN"]),
              dict(type="report", metrics={"loss": 1})]:
    f = connect()
    told("refused", ask(f, **first)["message"], repr(f.readline().decode()))
print(json.dumps({"metrics": {"loss": 9}}))
"#,
        |_| {},
    )
    .await;
    for words in [
        "refused token is not the one in TRAINYARD_TOKEN ''",
        "refused version is 2, accepted is 1 ''",
        "refused the first line is not of type hello ''",
    ] {
        assert!(ran.log().contains(words), "{words}: {}", ran.log());
    }
    assert_eq!(positions(&ran), [(1, 1)], "standard output still counts");
}

#[tokio::test]
async fn several_processes_speak_at_once() {
    let script = r#"
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        f = connect()
        hello(f)
        for step in range(50):
            assert ask(f, type="report", id=step, metrics={"loss": child})["id"] == step
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"#;
    let ran = run(script, |_| {}).await;
    assert_eq!(
        ran.end.outcome,
        AttemptOutcome::Completed,
        "{} {}",
        ran.end.error,
        ran.log()
    );
    let expected: Vec<(u64, u64)> = (1..=200).map(|n| (n, n)).collect();
    assert_eq!(positions(&ran), expected);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_the_next_is_not() {
    let script = r#"
f = connect()
hello(f)
told("long", ask(f, type="report", id=1, metrics={"loss": 1}, text="x" * (1 << 20))["message"])
told("next", ask(f, type="report", id=2, metrics={"loss": 1}))
"#;
    let ran = run(script, |_| {}).await;
    assert!(
        ran.log()
            .contains("long a line is longer than 1048576 bytes"),
        "{}",
        ran.log()
    );
    assert!(
        ran.log().contains("next {'type': 'ok', 'id': 2}"),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn a_program_that_hears_stops_ends_by_itself_within_its_grace() {
    let script = r#"
f = connect()
hello(f)
told("re" "ady")
told("heard", hear(f))
told("asked", ask(f, type="should_stop", id=1)["reason"])
say(f, type="report", metrics={"loss": 1})
"#;
    let ran = run(script, |run| run.stop_at_log("ready", Stop::Checkpoint)).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Preempted);
    assert!(
        ran.log()
            .contains("heard {'type': 'stop', 'reason': 'leave', 'grace_s': 30.0}"),
        "{}",
        ran.log()
    );
    assert!(
        ran.log().contains("asked leave") && !ran.log().contains("SIGTERM"),
        "{}",
        ran.log()
    );
    assert_eq!(positions(&ran), [(1, 1)]);
}

#[tokio::test]
async fn a_cancel_comes_with_its_signal() {
    let script = r#"
import signal
f = connect()
hello(f)
def term(*_):
    told("heard", hear(f)["reason"])
    sys.exit(3)
signal.signal(signal.SIGTERM, term)
told("re" "ady")
signal.pause()
"#;
    let ran = run(script, |run| run.stop_at_log("ready", Stop::Now)).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Cancelled);
    assert!(ran.log().contains("heard cancel"), "{}", ran.log());
}

#[tokio::test]
async fn a_rung_is_told_once_the_objective_is_there() {
    let script = r#"
f = connect()
told("until", hello(f)["until_epoch"])
say(f, type="report", metrics={"train": 1}, epoch=1)
told("train", ask(f, type="should_stop")["reason"])
say(f, type="report", metrics={"loss": 1}, epoch=1)
told("loss", hear(f)["reason"])
"#;
    let mut spec = python(script);
    spec.job.objectives =
        serde_json::from_str(r#"[{"metric": "loss", "mode": "minimize"}]"#).unwrap();
    let mut given = assignment(&spec);
    given.until_epoch = Some(1);
    let ran = run_assignment(given, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Paused, "{:?}", ran.end);
    for words in ["until 1", "train None", "loss rung"] {
        assert!(ran.log().contains(words), "{words}: {}", ran.log());
    }
}

#[tokio::test]
async fn a_program_says_over_the_channel_that_its_configuration_cannot_be() {
    let script = r#"
f = connect()
hello(f)
ask(f, type="infeasible", reason="the batch does not fit", id=1)
sys.exit(1)
"#;
    let ran = run(script, |_| {}).await;
    assert_eq!(ran.end.outcome, AttemptOutcome::Infeasible);
    assert_eq!(ran.end.error, "the batch does not fit");
}

#[tokio::test]
async fn checkpoints_are_taken_over_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
f = connect()
w = hello(f)
told("restore", w["restore"] and [w["restore"]["epoch"], w["restore"]["step"], os.listdir(w["restore"]["path"])])
def make(epoch):
    path = os.path.join(w["checkpoint_dir"], str(epoch))
    os.mkdir(path)
    open(os.path.join(path, "state"), "w").write(str(epoch))
    return path
one = make(1)
told("one", ask(f, type="report", id=1, epoch=0, step=10, metrics={"loss": 1}, checkpoint=one), os.path.exists(one))
say(f, type="report", epoch=1, step=20, metrics={"loss": 2})
say(f, type="report", epoch=1, step=21, metrics={"acc": 3})
told("two", ask(f, type="checkpoint", id=2, path=make(2)))
told("none", ask(f, type="checkpoint", id=3, path="/no/such/folder", step=30)["message"])
"#;
    let mut spec = python(script);
    spec.checkpoint_url = format!("file://{}", folder.path().display());
    let ran = run_alone(spec.clone(), |_| {}).await;
    for line in [
        "restore None",
        "one {'type': 'ok', 'id': 1} False",
        "two {'type': 'ok', 'id': 2}",
    ] {
        assert!(
            ran.log().lines().any(|told| told == line),
            "{line}: {}",
            ran.log()
        );
    }
    assert!(
        ran.log()
            .contains("none checkpoint /no/such/folder: there is no such"),
        "{}",
        ran.log()
    );
    let saved: Vec<CheckpointRef> = ran
        .bodies()
        .filter_map(|body| match body {
            Body::Checkpoint(saved) => saved.checkpoint.clone(),
            _ => None,
        })
        .collect();
    let at: Vec<(u64, u64, usize)> = saved
        .iter()
        .map(|of| (of.epoch, of.step, of.metrics.len()))
        .collect();
    assert_eq!(at, [(1, 10, 1), (2, 21, 2)], "{}", ran.log());
    let mut given = assignment(&spec);
    (given.attempt, given.generation) = (1, 2);
    given.resume_from = saved.last().cloned();
    given.checkpoints = saved;
    let ran = run_assignment(given, |_| {}).await;
    assert!(
        ran.log().contains("restore [2, 21, ['state']]"),
        "{}",
        ran.log()
    );
}

#[tokio::test]
async fn the_socket_is_its_user_s_alone_and_gone_with_the_attempt() {
    let script = r#"
path = os.environ["TRAINYARD_CHANNEL"]
told("modes", oct(os.stat(path).st_mode & 0o777), oct(os.stat(os.path.dirname(path)).st_mode & 0o777), len(path) < 104)
told("path", path)
"#;
    let ran = run(script, |_| {}).await;
    assert!(
        ran.log().contains("modes 0o600 0o700 True"),
        "{}",
        ran.log()
    );
    let mut lines = ran.log().lines();
    let path = lines.find_map(|line| line.strip_prefix("path ")).unwrap();
    let folder = std::path::Path::new(path).parent().unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_program_that_has_closed_its_channel_is_heard_on_standard_output_again() {
    let script = r#"
f = connect(); hello(f)
ask(f, type="report", id=1, epoch=1, metrics={"loss": 1})
print(json.dumps({"metrics": {"loss": 9}, "epoch": 7}), flush=True)
ask(f, type="report", id=2, epoch=2, metrics={"loss": 2})
f.close(); s.close()
print(json.dumps({"metrics": {"loss": 3}, "epoch": 3}), flush=True)
import time
while not os.path.exists(os.environ["GATE"]): time.sleep(0.05)
"#;
    let script = script.replace("f = connect()", "s = socket.socket(socket.AF_UNIX); s.connect(os.environ[\"TRAINYARD_CHANNEL\"]); f = s.makefile(\"rwb\")");
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let mut spec = python(&script);
    let environment = &mut spec.job.entrypoint.as_mut().unwrap().environment;
    let text = gate.display().to_string();
    environment.insert("GATE".to_owned(), text.as_str().into());
    // It goes on until its report is told.
    let ran = run_alone(spec, |run| run.touch_at_log("epoch 3", gate)).await;
    let epochs: Vec<u64> = ran.progress().iter().map(|p| p.epoch).collect();
    assert_eq!(epochs, [1, 2, 3], "{}", ran.log());
}

#[tokio::test]
async fn another_rank_comes_to_its_rung_by_its_own_report() {
    let script = r#"
f = connect(); hello(f)
for epoch in (1, 2):
    ask(f, type="report", id=epoch, epoch=epoch, metrics={"loss": 1})
    told(epoch, "stop", ask(f, type="should_stop", id="a")["reason"])
"#;
    let mut given = assignment(&python(script));
    given.until_epoch = Some(2);
    given.rank = 1;
    given.rendezvous_token = "secret".to_owned();
    let hosts = [0, 1].map(|_| std::sync::Arc::new(crate::runner::Host::for_test()));
    given.ranks = (0..2u32)
        .map(|rank| trainyard_proto::v1::Rank {
            rank,
            worker_id: format!("worker-{rank}"),
            slots: vec![0],
            collective_address: hosts[rank as usize].rendezvous.local_addr().to_string(),
        })
        .collect();
    let of = |rank: u32| {
        let given = trainyard_proto::v1::Assignment {
            rank,
            ..given.clone()
        };
        crate::runner::testing::run_beside(given, hosts[rank as usize].clone(), |_| {})
    };
    let (zero, one) = tokio::join!(of(0), of(1));
    for ran in [&zero, &one] {
        let told: Vec<&str> = ran
            .log()
            .lines()
            .filter(|line| line.contains(" stop ") && !line.contains("told"))
            .collect();
        assert_eq!(told, ["1 stop None", "2 stop rung"], "{}", ran.log());
    }
    assert_eq!((zero.progress().len(), one.progress().len()), (2, 0));
}
