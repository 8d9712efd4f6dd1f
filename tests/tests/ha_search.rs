//! Searches over several coordinators and etcd members of which each dies in turn: an asynchronous one
//! replays from its log to the same decisions, a random one comes to the undisturbed run's results.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;
use trainyard_tests::coordinators::Coordinators;
use trainyard_tests::{Sandbox, example, wait_for};

/// Attempts of a trial that completed, and all.
fn attempts(sandbox: &Sandbox, job: &str, trial: &Value) -> Result<Vec<Value>> {
    let id = trial["trial_id"].to_string();
    let described = sandbox.json(&["trial", "describe", job, &id])?;
    let attempts = described["trial"]["attempts"].as_array();
    Ok(attempts.context("no attempts")?.clone())
}

/// Entries of a job's search log of one kind.
fn entries<'a>(replayed: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let log = replayed["log"].as_array().into_iter().flatten();
    log.filter_map(move |entry| entry.get(kind))
}

/// Replays the job's search log with the command line's own searcher and scheduler.
fn replay(sandbox: &Sandbox, job: &str) -> Result<Value> {
    let replayed = sandbox.json(&["replay", job, "--entries"])?;
    assert_eq!(replayed["same"], true, "{replayed:#}");
    Ok(replayed)
}

/// Waits until so many results at rungs are in the log.
fn rungs(sandbox: &Sandbox, job: &str, count: u64) -> Result<()> {
    wait_for("trials to reach rungs", || {
        let replayed = sandbox.json(&["replay", job])?;
        Ok((replayed["rungs"].as_u64() >= Some(count)).then_some(()))
    })
}

#[test]
fn asha_replays_after_leader_worker_and_etcd_member_were_killed() -> Result<()> {
    let test = "asha_replays_after_leader_worker_and_etcd_member_were_killed";
    let Some(mut all) = Coordinators::start(test, 3, 2)? else {
        return Ok(());
    };
    let _worker = all.sandbox.worker("worker-a", 2)?;
    let victim = all.sandbox.worker("worker-b", 2)?;
    let asha = [
        "--limit",
        "800",
        "--set",
        "searcher.max_trials=18",
        "--set",
        "checkpoint_storage.every_epochs=1",
    ];
    let job = all.sandbox.submit(&example("asha.yaml"), &asha)?;
    rungs(&all.sandbox, &job, 3)?;
    let leader = all.next_leader(None)?;
    all.kill(leader)?;
    rungs(&all.sandbox, &job, 8)?;
    all.start_one(leader)?;
    victim.kill()?;
    let _another = all.sandbox.worker("worker-c", 2)?;
    rungs(&all.sandbox, &job, 12)?;
    let member = all.etcd.leader().context("etcd has no leader")?;
    all.etcd.kill(member);
    all.sandbox.completed(&job)?;

    let replayed = replay(&all.sandbox, &job)?;
    assert_eq!(replayed["suggestions"], 18, "{replayed:#}");
    assert_eq!(replayed["results"], 18, "{replayed:#}");
    assert!(replayed["promotions"].as_u64() > Some(2), "{replayed:#}");
    // Every trial ended once, and reached each rung once.
    let ended: BTreeSet<_> = entries(&replayed, "observed")
        .filter_map(|entry| entry["trial"].as_u64())
        .collect();
    assert_eq!(ended.len(), 18, "{replayed:#}");
    let reached: Vec<_> = entries(&replayed, "rung")
        .map(|entry| (entry["trial"].as_u64(), entry["rung"].as_u64()))
        .collect();
    let once: BTreeSet<_> = reached.iter().collect();
    assert_eq!(once.len(), reached.len(), "{replayed:#}");
    let mut lost = 0;
    for trial in all.sandbox.trials(&job)? {
        assert_eq!(trial["state"], "completed", "{trial:#}");
        assert_eq!(
            trial["restarts"], 0,
            "losing a worker is no failure: {trial:#}"
        );
        let attempts = attempts(&all.sandbox, &job, &trial)?;
        let of = |outcome: &str| attempts.iter().filter(|a| a["outcome"] == outcome).count();
        assert!(of("completed") <= 1, "{attempts:#?}");
        lost += of("node_lost");
    }
    assert!(
        (1..=2).contains(&lost),
        "{lost} attempts were lost with one worker"
    );
    Ok(())
}

#[test]
fn etcd_members_that_die_or_stand_still_cost_a_search_nothing() -> Result<()> {
    let test = "etcd_members_that_die_or_stand_still_cost_a_search_nothing";
    let Some(mut all) = Coordinators::start(test, 3, 2)? else {
        return Ok(());
    };
    let settings = [
        "--set",
        "searcher.max_trials=6",
        "--set",
        "training.epochs=20",
        "--limit",
        "300",
    ];
    let _worker = all.sandbox.worker("worker-a", 2)?;
    let job = all.sandbox.submit(&example("digits.yaml"), &settings)?;
    let completed = |all: &Coordinators, count: usize| {
        wait_for("trials to complete", || {
            let trials = all.sandbox.trials(&job)?;
            let completed = trials.iter().filter(|trial| trial["state"] == "completed");
            Ok((completed.count() >= count).then_some(()))
        })
    };
    completed(&all, 1)?;
    let member = all.etcd.leader().context("etcd has no leader")?;
    all.etcd.stop(member);
    completed(&all, 2)?;
    all.etcd.go_on(member);
    all.etcd.wait_healthy().map_err(anyhow::Error::msg)?;
    let member = all.etcd.leader().context("etcd has no leader")?;
    all.etcd.kill(member);
    completed(&all, 4)?;
    all.etcd.restart(member);
    all.sandbox.completed(&job)?;

    replay(&all.sandbox, &job)?;
    let trials = all.sandbox.trials(&job)?;
    for trial in &trials {
        let attempts = attempts(&all.sandbox, &job, trial)?;
        assert_eq!(attempts.len(), 1, "training never pauses: {attempts:#?}");
        assert_eq!(attempts[0]["outcome"], "completed");
    }
    let alone = Sandbox::new()?;
    let run = alone.json(&[&["run", &example("digits.yaml")][..], &settings].concat())?;
    let result = |trial: &Value| (trial["params"].clone(), trial["metrics"].clone());
    let expected = run["trials"].as_array().context("no trials")?;
    assert!(trials.iter().map(result).eq(expected.iter().map(result)));
    Ok(())
}
