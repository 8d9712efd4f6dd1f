//! Workers that stand still, are cut off in one direction or both, and come back: what they were given
//! goes on elsewhere, what they say afterwards does not count, and the result is the undisturbed one.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_common::testing::report_skip;
use trainyard_tests::namespace::{Cut, Namespace};
use trainyard_tests::{Process, Sandbox, example, wait_for};

/// Without a sign of life for so long a worker is lost.
const LEASE_MS: u32 = 2_000;

/// Two small networks, long enough to be hit in the middle. The second worker below has room for both.
const JOB: &str = r#"
name: small
seed: 13
data:
  train:
    csv: {url: DIGITS, header: false, targets: [64]}
  shape: [64]
  classes: 10
split: {validation: 0.15, test: 0.2, stratify: true}
hyperparameters:
  lr: {type: double, minval: 0.0001, maxval: 0.01, log: true}
model:
  layers:
    - dense: {units: 32, activation: relu}
    - dense: {units: 10, activation: softmax}
training:
  batch_size: 32
  epochs: 400
  optimizer: {adam: {learning_rate: "${lr}"}}
objectives:
  - {metric: validation_loss, mode: minimize}
searcher: {name: random, max_trials: 2}
checkpoint_storage: {every_epochs: 10}
"#;

/// The job's file.
fn job_in(sandbox: &Sandbox) -> Result<String> {
    let digits = example("data/digits.csv.gz");
    sandbox.write("small.yaml", &JOB.replace("DIGITS", &digits))
}

/// Parameters and metrics of every trial.
fn results(trials: &[Value]) -> Vec<(Value, Value)> {
    let result = |trial: &Value| (trial["params"].clone(), trial["metrics"].clone());
    trials.iter().map(result).collect()
}

/// What the job ends in where nothing happens to it.
fn undisturbed() -> Result<Vec<(Value, Value)>> {
    let sandbox = Sandbox::new()?;
    let run = sandbox.json(&["run", &job_in(&sandbox)?])?;
    Ok(results(run["trials"].as_array().context("no trials")?))
}

fn described(sandbox: &Sandbox, job: &str, trial: &Value) -> Result<Value> {
    let id = trial["trial_id"].to_string();
    sandbox.json(&["trial", "describe", job, &id])
}

fn attempts(described: &Value) -> Result<&Vec<Value>> {
    let attempts = described["trial"]["attempts"].as_array();
    attempts.context("no attempts")
}

/// The id of the one worker that is there.
fn only_worker(sandbox: &Sandbox) -> Result<String> {
    wait_for("the worker to register", || {
        let workers = sandbox.json(&["worker", "list"])?;
        let first = workers["workers"][0]["worker_id"].as_str();
        Ok(first.map(str::to_owned))
    })
}

/// A running trial of a worker, once it has a checkpoint.
fn trial_on(sandbox: &Sandbox, job: &str, worker: &str) -> Result<Value> {
    wait_for("a running trial with a checkpoint", || {
        for trial in sandbox.trials(job)? {
            if trial["state"] == "running" && trial["latest_checkpoint"]["step"].as_u64() > Some(0)
            {
                let described = described(sandbox, job, &trial)?;
                let newest = attempts(&described)?.last().context("no attempt")?;
                if newest["ranks"][0]["worker_id"] == worker {
                    return Ok(Some(trial));
                }
            }
        }
        Ok(None)
    })
}

/// Waits until the trial runs on another worker, and returns the number of that attempt.
fn re_placed(sandbox: &Sandbox, job: &str, trial: &Value, from: &str) -> Result<usize> {
    wait_for("the trial to go on elsewhere", || {
        let described = described(sandbox, job, trial)?;
        let attempts = attempts(&described)?;
        let newest = attempts.last().context("no attempt")?;
        let elsewhere = newest["ranks"][0]["worker_id"] != from;
        Ok(elsewhere.then_some(attempts.len()))
    })
}

/// Waits until the worker is taken in again.
fn back(sandbox: &Sandbox, worker: &str) -> Result<()> {
    wait_for("the worker to come back", || {
        let workers = sandbox.json(&["worker", "list"])?;
        let workers = workers["workers"].as_array().context("no workers")?;
        let ready = |known: &&Value| {
            known["worker_id"] == worker && known["state"].as_str() == Some("ready")
        };
        Ok(workers.iter().find(ready).map(|_| ()))
    })
}

/// Every trial completed by one attempt; the victim's first attempt was lost with its worker, and what
/// it said afterwards is not told: steps are reported once, in order.
fn assert_lost_once(sandbox: &Sandbox, job: &str, victim: &Value) -> Result<()> {
    for trial in sandbox.trials(job)? {
        let described = described(sandbox, job, &trial)?;
        assert_eq!(described["trial"]["state"], "completed", "{described:#}");
        let ended: Vec<_> = attempts(&described)?
            .iter()
            .map(|attempt| attempt["outcome"].as_str().unwrap_or("none"))
            .collect();
        let completed = ended.iter().filter(|outcome| **outcome == "completed");
        assert_eq!(completed.count(), 1, "{described:#}");
        assert_eq!(ended.last(), Some(&"completed"), "{described:#}");
        if trial["trial_id"] == victim["trial_id"] {
            assert_eq!(ended[0], "node_lost", "{described:#}");
        }
        let points = described["points"].as_array().context("no points")?;
        let steps: Vec<_> = points.iter().filter_map(|p| p["step"].as_u64()).collect();
        ensure!(
            steps.windows(2).all(|pair| pair[0] <= pair[1]),
            "steps went back: {steps:?}"
        );
        let mut once = points.clone();
        once.dedup();
        assert_eq!(once.len(), points.len(), "told twice: {steps:?}");
    }
    Ok(())
}

/// The worker comes back to a coordinator that has given its trial away: it lets go of it.
fn comes_back(
    sandbox: &Sandbox,
    job: &str,
    victim: &Value,
    (worker, id): (&Process, &str),
) -> Result<()> {
    back(sandbox, id)?;
    wait_for("the attempt to be let go", || {
        Ok(worker
            .log()
            .contains("attempt is no longer ours")
            .then_some(()))
    })?;
    sandbox.completed(job)?;
    assert_lost_once(sandbox, job, victim)?;
    assert_eq!(results(&sandbox.trials(job)?), undisturbed()?);
    Ok(())
}

#[test]
fn a_worker_that_stood_still_finds_its_trial_given_away() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(LEASE_MS)?;
    let worker = sandbox.worker("worker-a", 1)?;
    let id = only_worker(&sandbox)?;
    let job = sandbox.submit(&job_in(&sandbox)?, &[])?;
    let victim = trial_on(&sandbox, &job, &id)?;
    let _other = sandbox.worker("worker-b", 2)?;
    worker.signal(libc::SIGSTOP)?;
    re_placed(&sandbox, &job, &victim, &id)?;
    worker.signal(libc::SIGCONT)?;
    comes_back(&sandbox, &job, &victim, (&worker, &id))
}

/// A worker behind a wire that is cut for longer than its lease, and mended.
fn cut_off(test: &str, cut: Cut) -> Result<()> {
    let namespace = match Namespace::create(1) {
        Ok(namespace) => namespace,
        Err(error) => {
            report_skip(test, &format!("no network namespace can be made: {error}"));
            return Ok(());
        }
    };
    let mut sandbox = Sandbox::new()?;
    let free = TcpListener::bind((namespace.here(0), 0))?.local_addr()?;
    sandbox.address = free.to_string();
    let _coordinator = sandbox.coordinator(LEASE_MS)?;
    let within = namespace.within();
    let worker = sandbox.worker_within(&within, &sandbox.address, "worker-a", 1)?;
    let id = only_worker(&sandbox)?;
    let job = sandbox.submit(&job_in(&sandbox)?, &[])?;
    let victim = trial_on(&sandbox, &job, &id)?;
    let _other = sandbox.worker("worker-b", 2)?;
    namespace.cut(0, cut)?;
    re_placed(&sandbox, &job, &victim, &id)?;
    namespace.mend(0, cut)?;
    comes_back(&sandbox, &job, &victim, (&worker, &id))
}

#[test]
fn a_worker_cut_off_and_healed_disturbs_nothing() -> Result<()> {
    cut_off("a_worker_cut_off_and_healed_disturbs_nothing", Cut::Both)
}

#[test]
fn a_worker_that_is_not_heard_is_lost() -> Result<()> {
    cut_off("a_worker_that_is_not_heard_is_lost", Cut::Out)
}

/// Its heartbeats need acknowledgements of the network: where none come, it is not heard for long either.
#[test]
fn a_worker_that_hears_nothing_is_lost() -> Result<()> {
    cut_off("a_worker_that_hears_nothing_is_lost", Cut::In)
}
