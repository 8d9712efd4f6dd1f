//! A search that computes for long delays itself alone: verbs are answered and other jobs go on meanwhile, and a
//! coordinator that starts anew serves before it has read the search.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trainyard_tests::{Sandbox, wait_for};

/// What the note of a job says whose next trial is being worked out.
const COMPUTES: &str = "its next trial is being worked out";

/// Six numbers in ascending order, 210 of a million configurations, under a Gaussian process that has so many known
/// results of ten numbers besides: each suggestion takes a while.
fn slow(sandbox: &Sandbox) -> Result<String> {
    let numbers = (0..6).map(|at| {
        let number = json!({"type": "int", "minval": 0, "maxval": 9});
        (format!("x{at}"), number)
    });
    let doubles = (0..10).map(|at| {
        let double = json!({"type": "double", "minval": 0, "maxval": 1});
        (format!("y{at}"), double)
    });
    let constraints = (1..6).map(|at| format!("x{} < x{at}", at - 1));
    let known = (0..1_200).map(|at| {
        let share = f64::from(at * 7 % 1_201) / 1_201.0;
        let xs = (0..6).map(|x| (format!("x{x}"), json!(x + at % 4)));
        let ys = (0..10).map(|y| (format!("y{y}"), json!((share * f64::from(y + 1)).fract())));
        let params: BTreeMap<String, Value> = xs.chain(ys).collect();
        json!({"params": params, "value": (share - 0.4).abs()})
    });
    let spec = json!({
        "name": "slow",
        "entrypoint": {"command": ["sh", "-c", r#"echo '{"metrics": {"loss": 1}}'"#]},
        "hyperparameters": numbers.chain(doubles).collect::<BTreeMap<_, _>>(),
        "constraints": constraints.collect::<Vec<_>>(),
        "objectives": [{"metric": "loss", "mode": "minimize"}],
        "searcher": {
            "name": "gp", "max_trials": 500, "max_concurrent_trials": 1, "gp_max_points": 2_000,
            "prior_results": known.collect::<Vec<_>>(),
        },
    });
    sandbox.write("slow.json", &spec.to_string())
}

fn quick(sandbox: &Sandbox) -> Result<String> {
    let spec = json!({
        "name": "quick",
        "entrypoint": {"command": ["sh", "-c", r#"echo '{"metrics": {"loss": 1}}'"#]},
        "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
        "objectives": [{"metric": "loss", "mode": "minimize"}],
        "searcher": {"name": "random", "max_trials": 100_000, "max_concurrent_trials": 1},
    });
    sandbox.write("quick.json", &spec.to_string())
}

/// Of each job its note and how many trials it has, as `list` tells.
fn listed(sandbox: &Sandbox) -> Result<BTreeMap<String, (String, u64, u64)>> {
    let list = sandbox.json(&["list"])?;
    let jobs = list["jobs"].as_array().context("no jobs")?;
    let row = |job: &Value| {
        let count = |state: &str| job[format!("trials_{state}")].as_u64().unwrap_or(0);
        let states = ["pending", "running", "paused", "completed", "failed"];
        let note = job["note"].as_str().unwrap_or_default();
        let id = job["job_id"].as_str().unwrap_or_default();
        let all = states.iter().map(|state| count(state)).sum();
        (id.to_owned(), (note.to_owned(), all, count("completed")))
    };
    Ok(jobs.iter().map(row).collect())
}

#[test]
fn a_slow_search_delays_itself_alone() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let coordinator = sandbox.coordinator(10_000)?;
    let _worker = sandbox.worker("worker", 2)?;
    let slow = sandbox.submit(&slow(&sandbox)?, &[])?;
    let quick = sandbox.submit(&quick(&sandbox)?, &[])?;
    // While one suggestion is worked out, the other job's trials end, and all of that is told.
    let mut seen: Option<(u64, u64)> = None;
    wait_for(
        "another job's trials to end while a search computes",
        || {
            let jobs = listed(&sandbox)?;
            let (note, begun, _) = jobs.get(&slow).context("no slow job")?;
            let (_, _, ended) = jobs.get(&quick).context("no quick job")?;
            if !note.contains(COMPUTES) {
                seen = None;
                return Ok(None);
            }
            let (before, first) = *seen.get_or_insert((*begun, *ended));
            if before != *begun {
                seen = Some((*begun, *ended));
                return Ok(None);
            }
            Ok((*ended > first).then_some(()))
        },
    )?;
    let described = sandbox.json(&["describe", &slow])?;
    assert_eq!(described["job"]["job_id"], slow.as_str());

    // What was asked is in the log, and a replay comes to the same; so does the next coordinator.
    wait_for("the slow search to have a few trials", || {
        let (_, _, completed) = listed(&sandbox)?.remove(&slow).context("no slow job")?;
        Ok((completed >= 2).then_some(()))
    })?;
    coordinator.kill()?;
    let _again = sandbox.coordinator(10_000)?;
    let (_, had, _) = listed(&sandbox)?.remove(&slow).context("no slow job")?;
    wait_for("the search to go on", || {
        let (_, trials, _) = listed(&sandbox)?.remove(&slow).context("no slow job")?;
        Ok((trials > had).then_some(()))
    })?;
    sandbox.json(&["cancel", &quick])?;
    sandbox.json(&["cancel", &slow])?;
    let replayed = sandbox.json(&["replay", &slow, "--entries"])?;
    assert_eq!(replayed["same"], true, "{replayed:#}");
    let log = replayed["log"].as_array().context("no log")?;
    assert!(
        log.iter().any(|entry| entry.get("asked").is_some()),
        "{replayed:#}"
    );
    Ok(())
}
