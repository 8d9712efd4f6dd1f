//! Processes are killed with signals while a real job runs; nothing is lost, repeated or changed.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;
use trainyard_tests::{Sandbox, example, wait_for};

/// Long enough to be hit in the middle, short enough for a test.
const JOB: [&str; 8] = [
    "--set",
    "searcher.max_trials=4",
    "--set",
    "training.epochs=40",
    "--limit",
    "800",
    "--set",
    "checkpoint_storage.every_epochs=2",
];

/// Waits until some trial runs and has a checkpoint, and returns it.
fn trial_with_checkpoint(sandbox: &Sandbox, job: &str) -> Result<Value> {
    wait_for("a running trial with a checkpoint", || {
        let trials = sandbox.trials(job)?;
        let found = trials.iter().find(|trial| {
            trial["state"] == "running" && trial["latest_checkpoint"]["step"].as_u64() > Some(0)
        });
        Ok(found.cloned())
    })
}

/// What an undisturbed run of the same job ends in: parameters and metrics of every trial.
fn undisturbed() -> Result<Vec<(Value, Value)>> {
    let sandbox = Sandbox::new()?;
    let run = sandbox.json(&[&["run", &example("digits.yaml")][..], &JOB].concat())?;
    Ok(results(run["trials"].as_array().context("no trials")?))
}

fn results(trials: &[Value]) -> Vec<(Value, Value)> {
    trials
        .iter()
        .map(|trial| (trial["params"].clone(), trial["metrics"].clone()))
        .collect()
}

/// Every trial completed, by exactly one attempt.
fn assert_completed_once(sandbox: &Sandbox, job: &str) -> Result<()> {
    let trials = sandbox.trials(job)?;
    let ids: BTreeSet<u64> = trials
        .iter()
        .filter_map(|trial| trial["trial_id"].as_u64())
        .collect();
    assert_eq!(
        ids,
        (0..4).collect::<BTreeSet<u64>>(),
        "no trial lost, none twice"
    );
    for trial in &trials {
        assert_eq!(trial["state"], "completed", "{trial:#}");
        let id = trial["trial_id"].to_string();
        let described = sandbox.json(&["trial", "describe", job, &id])?;
        let attempts = described["trial"]["attempts"]
            .as_array()
            .context("no attempts")?;
        let completed = attempts
            .iter()
            .filter(|attempt| attempt["outcome"] == "completed")
            .count();
        assert_eq!(completed, 1, "{described:#}");
    }
    Ok(())
}

#[test]
fn a_killed_coordinator_loses_nothing() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let coordinator = sandbox.coordinator(10_000)?;
    let _workers = [
        sandbox.worker("worker-a", 1)?,
        sandbox.worker("worker-b", 1)?,
    ];
    let job = sandbox.submit(&example("digits.yaml"), &JOB)?;
    trial_with_checkpoint(&sandbox, &job)?;
    coordinator.kill()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    sandbox.completed(&job)?;
    assert_completed_once(&sandbox, &job)?;
    let trials = sandbox.trials(&job)?;
    // Workers trained on and attached again: nothing was started anew.
    for trial in &trials {
        let id = trial["trial_id"].to_string();
        let described = sandbox.json(&["trial", "describe", &job, &id])?;
        assert_eq!(
            described["trial"]["attempts"].as_array().map(Vec::len),
            Some(1),
            "{described:#}"
        );
    }
    assert_eq!(results(&trials), undisturbed()?);
    Ok(())
}

#[test]
fn a_coordinator_that_stood_still_expels_nobody() -> Result<()> {
    const LEASE_MS: u32 = 2_000;
    let mut sandbox = Sandbox::new()?;
    let coordinator = sandbox.coordinator(LEASE_MS)?;
    let _worker = sandbox.worker("worker-a", 1)?;
    let job = sandbox.submit(&example("digits.yaml"), &JOB)?;
    trial_with_checkpoint(&sandbox, &job)?;
    coordinator.signal(libc::SIGSTOP)?;
    // The fault itself: it lasts longer than a lease.
    std::thread::sleep(std::time::Duration::from_millis(u64::from(LEASE_MS) * 2));
    coordinator.signal(libc::SIGCONT)?;
    sandbox.completed(&job)?;
    for trial in sandbox.trials(&job)? {
        let id = trial["trial_id"].to_string();
        let described = sandbox.json(&["trial", "describe", &job, &id])?;
        let attempts = described["trial"]["attempts"].as_array().map(Vec::len);
        assert_eq!(attempts, Some(1), "{described:#}");
    }
    Ok(())
}

#[test]
fn a_killed_worker_s_trials_go_on_elsewhere() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(2_000)?;
    let worker = sandbox.worker("worker-a", 1)?;
    let job = sandbox.submit(&example("digits.yaml"), &JOB)?;
    let victim = trial_with_checkpoint(&sandbox, &job)?;
    worker.kill()?;
    let _other = sandbox.worker("worker-b", 1)?;
    sandbox.completed(&job)?;
    assert_completed_once(&sandbox, &job)?;

    let id = victim["trial_id"].to_string();
    let described = sandbox.json(&["trial", "describe", &job, &id])?;
    let attempts = described["trial"]["attempts"]
        .as_array()
        .context("no attempts")?;
    assert_eq!(attempts.len(), 2, "{described:#}");
    assert_eq!(attempts[0]["outcome"], "node_lost");
    let from = attempts[1]["from_step"].as_u64().context("no from_step")?;
    assert!(
        from >= victim["latest_checkpoint"]["step"].as_u64().unwrap_or(0),
        "went on from its checkpoint"
    );
    assert_eq!(results(&sandbox.trials(&job)?), undisturbed()?);
    Ok(())
}

#[test]
fn a_run_that_was_killed_or_interrupted_resumes_to_the_same_result() -> Result<()> {
    let expected = undisturbed()?;
    let spec = example("digits.yaml");
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let sandbox = Sandbox::new()?;
        let arguments = [&["run", &spec][..], &JOB].concat();
        let mut run = sandbox.spawn_ctl("run", &arguments)?;
        wait_for("the first checkpoints", || {
            let trials = sandbox.path().join("trainyard-data");
            Ok(manifests(&trials).gt(&1).then_some(()))
        })?;
        run.signal(signal)?;
        let status = run.wait()?;
        if signal == libc::SIGINT {
            assert_eq!(status.code(), Some(130), "{}", run.log());
            assert!(
                run.log().contains("--resume"),
                "says how to go on: {}",
                run.log()
            );
        }
        let resumed = sandbox.json(&[&arguments[..], &["--resume"]].concat())?;
        assert_eq!(resumed["job"]["state"], "completed", "{resumed:#}");
        let trials = resumed["trials"].as_array().context("no trials")?;
        assert_eq!(results(trials), expected, "signal {signal}");
    }
    Ok(())
}

/// Number of checkpoint manifests below a folder.
fn manifests(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.path() {
            path if path.is_dir() => manifests(&path),
            path => usize::from(
                path.extension()
                    .is_some_and(|extension| extension == "json"),
            ),
        })
        .sum()
}

#[test]
fn a_worker_told_to_leave_hands_its_trial_over() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let mut worker = sandbox.worker("worker-a", 1)?;
    let job = sandbox.submit(&example("digits.yaml"), &JOB)?;
    let victim = trial_with_checkpoint(&sandbox, &job)?;
    worker.signal(libc::SIGTERM)?;
    assert!(worker.wait()?.success(), "{}", worker.log());
    let _other = sandbox.worker("worker-b", 1)?;
    sandbox.completed(&job)?;
    assert_completed_once(&sandbox, &job)?;
    let id = victim["trial_id"].to_string();
    let described = sandbox.json(&["trial", "describe", &job, &id])?;
    assert_eq!(
        described["trial"]["attempts"][0]["outcome"], "preempted",
        "{described:#}"
    );
    assert_eq!(
        described["trial"]["restarts"], 0,
        "a preemption is nobody's failure"
    );
    Ok(())
}

#[test]
fn a_lost_rank_ends_in_the_same_bytes() -> Result<()> {
    let spec = example("two-ranks.yaml");
    let settings = [
        "--set",
        "training.virtual_shards=4",
        "--set",
        "training.epochs=100",
    ];
    let undisturbed = {
        let mut sandbox = Sandbox::new()?;
        let _coordinator = sandbox.coordinator(5_000)?;
        let _workers = [
            sandbox.worker("worker-a", 1)?,
            sandbox.worker("worker-b", 1)?,
        ];
        let job = sandbox.submit(&spec, &settings)?;
        sandbox.completed(&job)?;
        sandbox.tensors(&job, 0)?
    };
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(2_000)?;
    let _first = sandbox.worker("worker-a", 1)?;
    let second = sandbox.worker("worker-b", 1)?;
    let job = sandbox.submit(&spec, &settings)?;
    trial_with_checkpoint(&sandbox, &job)?;
    second.kill()?;
    let _third = sandbox.worker("worker-c", 1)?;
    sandbox.completed(&job)?;
    let trial = sandbox.json(&["trial", "describe", &job, "0"])?;
    assert_eq!(
        trial["trial"]["attempts"].as_array().map(Vec::len),
        Some(2),
        "{trial:#}"
    );
    assert!(
        undisturbed == sandbox.tensors(&job, 0)?,
        "the result depends on a machine that died"
    );
    Ok(())
}

/// A program may print any number: nothing that it says keeps its worker from telling the rest.
#[test]
fn a_number_that_nobody_can_count_disables_no_worker() -> Result<()> {
    let job = |name: &str, step: &str| {
        format!(
            "name: {name}\nentrypoint: {{command: [sh, -c, 'echo \"{{\\\"step\\\": {step}, \\\"metrics\\\": \
             {{\\\"v\\\": 1}}}}\"']}}\nhyperparameters: {{a: 1}}\nobjectives: [{{metric: v, mode: minimize}}]\n\
             max_restarts: 0\nsearcher: {{name: random, max_trials: 1}}\n"
        )
    };
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let mut worker = sandbox.worker("worker-a", 2)?;
    let poisonous = sandbox.write("poisonous.yaml", &job("poisonous", "9007199254740993"))?;
    let poisonous = sandbox.submit(&poisonous, &[])?;
    let sound = sandbox.write("sound.yaml", &job("sound", "1"))?;
    let sound = sandbox.submit(&sound, &[])?;
    sandbox.completed(&sound)?;
    wait_for("the poisonous job to end", || {
        let described = sandbox.json(&["describe", &poisonous])?;
        let state = described["job"]["state"].as_str();
        Ok(matches!(state, Some("completed" | "failed")).then_some(()))
    })?;
    let told = sandbox.ctl(&["logs", &poisonous])?.stdout;
    assert!(told.contains("9007199254740993"), "{told}");
    worker.signal(libc::SIGTERM)?;
    assert!(worker.wait()?.success(), "{}", worker.log());
    Ok(())
}
