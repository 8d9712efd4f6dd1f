//! Priorities, quotas and preemption on real processes: a job that leaves its slot to a more important one
//! goes on from its checkpoint and ends as if nothing had happened.

use anyhow::{Context, Result};
use serde_json::Value;
use trainyard_tests::{Sandbox, example, wait_for};

const JOB: [&str; 8] = [
    "--set",
    "searcher.max_trials=1",
    "--set",
    "training.epochs=12",
    "--limit",
    "400",
    "--set",
    "checkpoint_storage.every_epochs=1",
];

fn results(trials: &[Value]) -> Vec<(Value, Value)> {
    let results = trials.iter();
    let results = results.map(|trial| (trial["params"].clone(), trial["metrics"].clone()));
    results.collect()
}

fn undisturbed() -> Result<Vec<(Value, Value)>> {
    let sandbox = Sandbox::new()?;
    let run = sandbox.json(&[&["run", &example("digits.yaml")][..], &JOB].concat())?;
    Ok(results(run["trials"].as_array().context("no trials")?))
}

/// Reasons of the decisions of this kind.
fn reasons(sandbox: &Sandbox, job: &str, trial: &str, what: &str) -> Result<Vec<String>> {
    let told = sandbox.json(&["trial", "explain", job, trial])?;
    let decisions = told["decisions"].as_array().context("no decisions")?;
    let kind = decisions.iter().filter(|told| told["what"] == what);
    let reasons = kind.filter_map(|told| told["reason"].as_str());
    Ok(reasons.map(str::to_owned).collect())
}

#[test]
fn a_preempted_trial_goes_on_and_ends_as_undisturbed() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let _worker = sandbox.worker("worker-a", 1)?;
    let low = sandbox.submit(&example("digits.yaml"), &JOB)?;
    let victim = wait_for("a running trial with a checkpoint", || {
        let trials = sandbox.trials(&low)?;
        let found = trials.iter().find(|trial| {
            trial["state"] == "running" && trial["latest_checkpoint"]["step"].as_u64() > Some(0)
        });
        Ok(found.cloned())
    })?;
    let high = sandbox.submit(
        &example("digits.yaml"),
        &[
            "--set",
            "priority=5",
            "--set",
            "searcher.max_trials=1",
            "--set",
            "training.epochs=1",
            "--limit",
            "200",
        ],
    )?;
    let high_ended = sandbox.completed(&high)?;
    let low_ended = sandbox.completed(&low)?;
    let time = |job: &Value, field: &str| job["job"][field].as_u64().context("no time");
    assert!(
        time(&high_ended, "ended_ms")? < time(&low_ended, "ended_ms")?,
        "the important job did not wait for the other: {high_ended:#}"
    );
    let id = victim["trial_id"].to_string();
    let described = sandbox.json(&["trial", "describe", &low, &id])?;
    let attempts = described["trial"]["attempts"]
        .as_array()
        .context("no attempts")?;
    assert_eq!(attempts.len(), 2, "{described:#}");
    assert_eq!(attempts[0]["outcome"], "preempted");
    assert!(attempts[1]["from_step"].as_u64() > Some(0), "{described:#}");
    assert_eq!(described["trial"]["restarts"], 0);
    let told = reasons(&sandbox, &low, &id, "preempted")?;
    let asked = format!("preempted for {high}, of priority 5 over 0");
    assert!(told[0].starts_with(&asked), "{told:?}");
    assert!(told[1].contains("goes on from the checkpoint"), "{told:?}");
    let placed = reasons(&sandbox, &high, "0", "placed")?;
    assert!(placed[0].contains("kept for it"), "{placed:?}");
    assert_eq!(results(&sandbox.trials(&low)?), undisturbed()?);
    Ok(())
}

#[test]
fn a_quota_holds_and_outlives_the_coordinator() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let coordinator = sandbox.coordinator(10_000)?;
    let set = [
        "workspace",
        "set",
        "team",
        "--max-cpu-slots",
        "0",
        "--weight",
        "2",
    ];
    let answer = sandbox.json(&set)?;
    assert_eq!(answer["weight"], 2.0);
    assert_eq!(answer["max_cpu_slots"], 0);
    let refused = sandbox.ctl(&["workspace", "set", "team", "--weight", "0"])?;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("weight: 0 given"),
        "{}",
        refused.stderr
    );
    coordinator.kill()?;
    let _coordinator = sandbox.coordinator(10_000)?;
    let _worker = sandbox.worker("worker-a", 1)?;
    let more = [
        "--set",
        "workspace=team",
        "--set",
        "searcher.max_trials=1",
        "--set",
        "training.epochs=1",
        "--limit",
        "200",
    ];
    let job = sandbox.submit(&example("digits.yaml"), &more)?;
    let note = "needs 1 cpu slots at one time; the quota of workspace team is 0";
    wait_for("the note", || {
        let described = sandbox.json(&["describe", &job])?;
        Ok((described["job"]["note"] == note).then_some(()))
    })?;
    let listed = sandbox.ctl(&["workspace", "list"])?;
    assert!(listed.stdout.contains("team"), "{}", listed.stdout);
    let shown = sandbox.json(&["workspace", "show", "team"])?;
    assert_eq!(shown["jobs_waiting"], 1, "{shown:#}");
    assert_eq!(sandbox.ctl(&["workspace", "show", "nobody"])?.code, 4);
    sandbox.json(&["workspace", "set", "team", "--no-quota"])?;
    sandbox.completed(&job)?;
    let left = sandbox.json(&["workspace", "remove", "team"])?;
    assert_eq!(left["weight"], 1.0);
    Ok(())
}
