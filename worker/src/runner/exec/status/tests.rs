//! A client in Python's standard library that sends exactly what `KubeflowCallback` of Transformers 5.24 sends.

use trainyard_common::spec::TrialSpec;
use trainyard_proto::v1::AttemptOutcome;

use crate::runner::testing::{Ran, assignment, exec_spec, run_alone, run_assignment};

const CLIENT: &str = r#"
import json, os, socket, sys, urllib.error, urllib.request
from datetime import datetime, timezone
def token():
    with open(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"], encoding="utf-8") as f:
        return f.read().strip()
def post(data, token, method="POST", url=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = url or os.environ["KUBEFLOW_TRAINER_SERVER_URL"]
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60, context=None) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
def update(percent, metrics=None, remaining=None):
    status = {"lastUpdatedTime": datetime.now(timezone.utc).isoformat(), "progressPercentage": percent}
    if remaining is not None:
        status["estimatedRemainingSeconds"] = remaining
    if metrics:
        status["metrics"] = [{"name": str(k), "value": str(v)} for k, v in metrics.items()]
    return post(json.dumps({"trainerStatus": status}).encode("utf-8"), token())
def told(*words):
    print(*words, flush=True)
"#;

fn python(script: &str) -> TrialSpec {
    exec_spec(&["python3", "-c", &format!("{CLIENT}{script}")])
}

/// Epoch, step, whether it ends the epoch, and the names of what is reported.
fn reported(ran: &Ran) -> Vec<(u64, u64, bool, String)> {
    let progress = ran.progress().into_iter();
    let names = |of: &[trainyard_proto::v1::Metric]| {
        let names: Vec<&str> = of.iter().map(|metric| metric.name.as_str()).collect();
        names.join(" ")
    };
    progress
        .map(|p| (p.epoch, p.step, p.end_of_epoch, names(&p.metrics)))
        .collect()
}

#[tokio::test]
async fn what_a_trainer_of_transformers_sends_is_reported() {
    let script = r#"
told(update(0, {"total_steps": 20}))
logs = {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 5e-05, "epoch": 0.5}
told(update(25, {**logs, "current_step": 6, "total_steps": 20, "current_epoch": 0.6}, 9))
logs.update({"eval_loss": 0.5, "eval_runtime": 0.01, "epoch": 1.0})
told(update(55, {**logs, "current_step": 11, "total_steps": 20, "current_epoch": 1.1}, 5))
logs.update({"eval_loss": 0.25, "eval_runtime": 0.02, "train_loss": 0.7, "epoch": 2.0})
told(update(100, logs, 0))
"#;
    let mut spec = python(script);
    let objective = r#"[{"metric": "eval_loss", "mode": "minimize"}]"#;
    spec.job.objectives = serde_json::from_str(objective).unwrap();
    let ran = run_alone(spec, |_| {}).await;
    let log = ran.log();
    assert_eq!(ran.end.outcome, AttemptOutcome::Completed, "{log}");
    assert_eq!(
        log.lines().filter(|line| *line == "200").count(),
        4,
        "{log}"
    );
    let train = "loss grad_norm learning_rate";
    assert_eq!(
        reported(&ran),
        [
            (0, 6, false, train.to_owned()),
            (1, 11, true, "eval_loss eval_runtime".to_owned()),
            (2, 11, true, "eval_loss eval_runtime train_loss".to_owned()),
        ],
        "{log}"
    );
    assert_eq!(ran.progress()[2].metrics[0].value, 0.25);
    assert!(!log.contains("objective"), "{log}");
}

#[tokio::test]
async fn a_rung_is_reached_by_the_evaluation_of_its_epoch() {
    let script = r#"
import time
logs = {"loss": 1.0, "eval_loss": 0.5, "epoch": 1.0, "current_step": 10}
told(update(50, logs))
while True: time.sleep(0.05)
"#;
    let mut given = assignment(&python(script));
    given.until_epoch = Some(1);
    let mut spec = python(script);
    spec.job.entrypoint.as_mut().unwrap().stop_grace = 0.1;
    given.trial_spec_json = serde_json::to_string(&spec).unwrap();
    let ran = run_assignment(given, |run| {
        run.stop_at_log("200", crate::attempt::Stop::Now)
    })
    .await;
    assert_eq!(reported(&ran).len(), 1, "{}", ran.log());
    assert_eq!(reported(&ran)[0].0, 1);
}

#[tokio::test]
async fn who_is_not_of_the_attempt_or_sends_too_much_is_refused() {
    let script = r#"
good = json.dumps({"trainerStatus": {"metrics": [{"name": "loss", "value": "1"}]}}).encode()
told("stranger", post(good, "x"))
told("get", post(None, token(), method="GET"))
told("large", post(b"x" * (1 << 20), token()))
told("none", post(b"{}", token()))
told("mode", oct(os.stat(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).st_mode & 0o777))
s = socket.create_connection(("127.0.0.1", int(os.environ["KUBEFLOW_TRAINER_SERVER_URL"].split(":")[2].strip("/"))))
s.sendall(b"X" * 100000)
told("head", s.recv(100)[:12])
told("good", post(good, token()))
"#;
    let ran = run_alone(python(script), |_| {}).await;
    let log = ran.log();
    for line in [
        "stranger 401",
        "get 405",
        "large 413",
        "none 400",
        "mode 0o600",
        "head b'HTTP/1.1 4",
        "good 200",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(reported(&ran), [(1, 1, true, "loss".to_owned())], "{log}");
}

#[tokio::test]
async fn a_program_that_reports_itself_is_heard_alone() {
    let script = r#"
print(json.dumps({"metrics": {"loss": 3}, "epoch": 1}), flush=True)
while update(50, {"loss": 2.0, "epoch": 1.0}) != 200: pass
"#;
    // What it prints is read beside what it sends: the second look comes after it was.
    let script =
        format!("{script}import time; time.sleep(0.3)\nupdate(100, {{'loss': 1.0, 'epoch': 2.0}})");
    let ran = run_alone(python(&script), |_| {}).await;
    assert!(
        !reported(&ran).iter().any(|report| report.0 == 2),
        "{}",
        ran.log()
    );
    let script = r#"
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["TRAINYARD_CHANNEL"])
f = s.makefile("rwb")
f.write(json.dumps({"type": "hello", "version": 1, "token": os.environ["TRAINYARD_TOKEN"]}).encode() + b"\n"); f.flush()
f.readline()
told(update(100, {"loss": 1.0, "epoch": 2.0}))
"#;
    let ran = run_alone(python(script), |_| {}).await;
    assert!(ran.log().contains("200"), "{}", ran.log());
    assert_eq!(reported(&ran), [], "{}", ran.log());
}

#[tokio::test]
async fn a_spec_may_say_that_updates_go_elsewhere_and_other_ranks_send_none() {
    let script = r#"told(os.environ.get("KUBEFLOW_TRAINER_SERVER_URL"), os.environ.get("KUBEFLOW_TRAINER_SERVER_TOKEN"))"#;
    let mut spec = python(script);
    let program = spec.job.entrypoint.as_mut().unwrap();
    let url = super::URL.to_owned();
    program.environment.insert(url, "https://own".into());
    let ran = run_alone(spec, |_| {}).await;
    assert!(ran.log().contains("https://own None"), "{}", ran.log());
}
