//! Several coordinators over real etcd: the leader is killed, told to leave, stopped, and cut off while
//! real jobs run. Nothing is lost, repeated or restarted, and nothing that an old leader does counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trainyard_common::testing::report_skip;
use trainyard_tests::coordinators::{Coordinators, forward};
use trainyard_tests::namespace::{Cut, Namespace};
use trainyard_tests::{Process, Sandbox, example, wait_for};

/// Trials of the job below, and steps of each.
const TRIALS: usize = 16;
const STEPS: usize = 24;

/// A search whose trials take some seconds without much of a processor. Each writes down when it
/// begins and ends, so that a second beginning is seen.
fn steps_job(ledger: &str) -> String {
    format!(
        r#"
name: steps
seed: 11
hyperparameters:
  x: {{type: double, minval: -5, maxval: 5}}
entrypoint:
  command:
    - sh
    - -c
    - |
      echo "begin $TRAINYARD_TRIAL_ID" >> {ledger}
      for step in $(seq {STEPS}); do
        sleep 0.25
        echo "says $step"
        echo "{{\"step\": $step, \"metrics\": {{\"value\": $X, \"count\": $step}}}}"
      done
      echo "end $TRAINYARD_TRIAL_ID" >> {ledger}
  environment:
    X: "${{x}}"
objectives:
  - {{metric: value, mode: minimize}}
searcher: {{name: random, max_trials: {TRIALS}}}
"#
    )
}

/// One quick trial: a write that is accepted or not.
const QUICK: &str = r#"
name: quick
entrypoint: {command: [sh, -c, 'echo "{\"metrics\": {\"value\": 1}}"']}
objectives: [{metric: value, mode: minimize}]
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
searcher: {name: random, max_trials: 1}
"#;

/// The digits example, long enough to be hit in the middle.
const DIGITS: [&str; 8] = [
    "--set",
    "searcher.max_trials=4",
    "--set",
    "training.epochs=40",
    "--limit",
    "800",
    "--set",
    "checkpoint_storage.every_epochs=2",
];

/// Configuration and last metrics of each trial.
fn results(trials: &[Value]) -> Vec<(Value, Value)> {
    trials
        .iter()
        .map(|trial| (trial["params"].clone(), trial["metrics"].clone()))
        .collect()
}

/// What the same job ends in where nothing happens to it.
fn undisturbed(spec: &str, more: &[&str]) -> Result<Vec<(Value, Value)>> {
    let sandbox = Sandbox::new()?;
    let run = sandbox.json(&[&["run", spec, "--slots", "4"][..], more].concat())?;
    Ok(results(run["trials"].as_array().context("no trials")?))
}

/// Every trial completed, by its first and only attempt, and each step of it counts once.
fn assert_never_restarted(sandbox: &Sandbox, job: &str, count: usize) -> Result<()> {
    let trials = sandbox.trials(job)?;
    let ids: Vec<u64> = trials
        .iter()
        .filter_map(|t| t["trial_id"].as_u64())
        .collect();
    assert_eq!(
        ids,
        (0..count as u64).collect::<Vec<_>>(),
        "none lost, none twice"
    );
    for id in ids {
        let described = sandbox.json(&["trial", "describe", job, &id.to_string()])?;
        let trial = &described["trial"];
        assert_eq!(trial["state"], "completed", "{described:#}");
        assert_eq!(trial["restarts"], 0, "{described:#}");
        let attempts = trial["attempts"].as_array().context("no attempts")?;
        assert_eq!(attempts.len(), 1, "{described:#}");
        let points = described["points"].as_array().context("no points")?;
        let steps: Vec<u64> = points.iter().filter_map(|p| p["step"].as_u64()).collect();
        ensure!(
            steps.windows(2).all(|pair| pair[0] <= pair[1]),
            "steps went back: {steps:?}"
        );
    }
    Ok(())
}

/// Waits until so many trials of the job run.
fn running(sandbox: &Sandbox, job: &str, count: usize) -> Result<()> {
    wait_for("trials to run", || {
        let trials = sandbox.trials(job)?;
        let running = trials.iter().filter(|trial| trial["state"] == "running");
        Ok((running.count() >= count).then_some(()))
    })
}

/// The lines of `logs -f --output json`: numbered without a gap, in each trial, and told once.
fn assert_logs_whole(follower: &mut Process) -> Result<()> {
    let status = follower.wait()?;
    assert!(status.success(), "{}", follower.log());
    let mut told: BTreeMap<u64, Vec<(u64, String)>> = BTreeMap::new();
    for line in follower.log().lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let trial = line["trial_id"].as_u64().context("no trial")?;
        let sequence = line["sequence"].as_u64().context("no sequence")?;
        let text = line["text"].as_str().unwrap_or_default().to_owned();
        told.entry(trial).or_default().push((sequence, text));
    }
    assert_eq!(told.len(), TRIALS);
    for (trial, lines) in told {
        let sequences: Vec<u64> = lines.iter().map(|(sequence, _)| *sequence).collect();
        let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, expected, "trial {trial}: {lines:?}");
        // Those that were on their way to a leader that was killed are told again to the next one.
        let said = lines
            .iter()
            .filter_map(|(_, text)| text.strip_prefix("says "));
        let said: Vec<usize> = said.filter_map(|step| step.parse().ok()).collect();
        let all: Vec<usize> = (1..=STEPS).collect();
        ensure!(
            said == all,
            "trial {trial}: each line once, in order: {said:?}"
        );
    }
    Ok(())
}

#[test]
fn five_killed_leaders_lose_repeat_and_restart_nothing() -> Result<()> {
    let test = "five_killed_leaders_lose_repeat_and_restart_nothing";
    let Some(mut all) = Coordinators::start(test, 3, 3)? else {
        return Ok(());
    };
    let ledger = all.sandbox.path().join("ledger").display().to_string();
    let spec = all.sandbox.write("steps.yaml", &steps_job(&ledger))?;
    let quick = all.sandbox.write("quick.yaml", QUICK)?;
    let _workers = [
        all.sandbox.worker("worker-a", 2)?,
        all.sandbox.worker("worker-b", 2)?,
    ];
    let job = all.sandbox.submit(&spec, &[])?;
    running(&all.sandbox, &job, 4)?;
    let follow = ["logs", "-f", &job, "--output", "json"];
    let mut follower = all.sandbox.spawn_ctl("follower", &follow)?;
    let mut quick_jobs = Vec::new();
    for kill in 0..5 {
        let leader = all.next_leader(None)?;
        // Once, etcd's own leader goes at the same moment.
        let member = (kill == 2).then(|| all.etcd.leader()).flatten();
        if let Some(member) = member {
            all.etcd.kill(member);
        }
        all.kill(leader)?;
        quick_jobs.push(all.sandbox.submit(&quick, &[])?);
        let next = all.next_leader(None)?;
        assert_ne!(next, leader, "the killed one leads");
        if let Some(member) = member {
            all.etcd.restart(member);
            all.etcd.wait_healthy().map_err(anyhow::Error::msg)?;
        }
        all.start_one(leader)?;
    }
    all.sandbox.completed(&job)?;
    for quick in &quick_jobs {
        all.sandbox.completed(quick)?;
    }
    assert_logs_whole(&mut follower)?;
    assert_never_restarted(&all.sandbox, &job, TRIALS)?;
    let written = std::fs::read_to_string(&ledger)?;
    let mut lines: Vec<&str> = written.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 2 * TRIALS, "{written}");
    assert_eq!(
        written.lines().count(),
        2 * TRIALS,
        "one began twice: {written}"
    );
    let other = all.sandbox.path().join("other").display().to_string();
    let alone = all.sandbox.write("alone.yaml", &steps_job(&other))?;
    assert_eq!(
        results(&all.sandbox.trials(&job)?),
        undisturbed(&alone, &[])?
    );
    let jobs = all.sandbox.json(&["list"])?;
    let jobs = jobs["jobs"].as_array().map(Vec::len);
    assert_eq!(jobs, Some(1 + quick_jobs.len()), "a submit counted twice");
    Ok(())
}

#[test]
fn a_leader_told_to_leave_hands_over_and_training_goes_on() -> Result<()> {
    let test = "a_leader_told_to_leave_hands_over_and_training_goes_on";
    let Some(mut all) = Coordinators::start(test, 1, 2)? else {
        return Ok(());
    };
    let _worker = all.sandbox.worker("worker-a", 2)?;
    let job = all.sandbox.submit(&example("digits.yaml"), &DIGITS)?;
    running(&all.sandbox, &job, 2)?;
    for _ in 0..2 {
        let leader = all.next_leader(None)?;
        all.terminate(leader)?;
        let next = all.next_leader(Some(leader))?;
        assert_ne!(next, leader);
        all.sandbox.json(&["describe", &job])?;
        all.start_one(leader)?;
    }
    all.sandbox.completed(&job)?;
    assert_never_restarted(&all.sandbox, &job, 4)?;
    let expected = undisturbed(&example("digits.yaml"), &DIGITS)?;
    assert_eq!(results(&all.sandbox.trials(&job)?), expected);
    Ok(())
}

#[test]
fn a_leader_that_stood_still_changes_nothing_when_it_wakes_up() -> Result<()> {
    let test = "a_leader_that_stood_still_changes_nothing_when_it_wakes_up";
    let Some(mut all) = Coordinators::start(test, 1, 2)? else {
        return Ok(());
    };
    let ledger = all.sandbox.path().join("ledger").display().to_string();
    let spec = all.sandbox.write("steps.yaml", &steps_job(&ledger))?;
    let quick = all.sandbox.write("quick.yaml", QUICK)?;
    let _worker = all.sandbox.worker("worker-a", 4)?;
    let job = all
        .sandbox
        .submit(&spec, &["--set", "searcher.max_trials=6"])?;
    running(&all.sandbox, &job, 4)?;
    let zombie = all.next_leader(None)?;
    all.process(zombie)?.signal(libc::SIGSTOP)?;
    // Asked while it cannot answer: the zombie finds this in its socket when it wakes up.
    let address = all.address(zombie).to_owned();
    let arguments = ["submit", &quick, "--coordinator", &address];
    let mut asked = all.sandbox.spawn_ctl("asked", &arguments)?;
    let next = all.next_leader(Some(zombie))?;
    // Told to the new leader, and undone by nobody.
    let other = all.address(next).to_owned();
    let cancelled = all
        .sandbox
        .json(&["submit", &quick, "--coordinator", &other])?;
    let cancelled = cancelled["job_id"].as_str().context("no id")?.to_owned();
    let process = all.process(zombie)?;
    process.signal(libc::SIGCONT)?;
    wait_for("the zombie to notice", || {
        let log = process.log();
        Ok(log.contains("this coordinator leads no more").then_some(()))
    })?;
    assert_eq!(all.leader()?, Some(next), "the new leader leads");
    let status = asked.wait()?;
    assert!(
        status.success(),
        "it follows to the leader: {}",
        asked.log()
    );
    all.sandbox.completed(&job)?;
    all.sandbox.completed(&cancelled)?;
    assert_never_restarted(&all.sandbox, &job, 6)?;
    let jobs = all.sandbox.json(&["list"])?;
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(3), "{jobs:#}");
    assert_eq!(std::fs::read_to_string(&ledger)?.lines().count(), 12);
    // And it can lead again.
    all.terminate(next)?;
    assert_eq!(all.next_leader(Some(next))?, zombie);
    let again = all.sandbox.submit(&quick, &[])?;
    all.sandbox.completed(&again)?;
    Ok(())
}

/// The wires of the test below.
const TO_ETCD: usize = 0;
const TO_ALL: usize = 1;

#[test]
fn a_leader_cut_off_from_etcd_is_replaced_and_comes_back_as_a_standby() -> Result<()> {
    let test = "a_leader_cut_off_from_etcd_is_replaced_and_comes_back_as_a_standby";
    let namespace = match Namespace::create(2) {
        Ok(namespace) => namespace,
        Err(error) => {
            report_skip(test, &format!("no network namespace can be made: {error}"));
            return Ok(());
        }
    };
    let Some(mut all) = Coordinators::prepare(test, 1, 2)? else {
        return Ok(());
    };
    let mut etcd = Vec::new();
    for endpoint in all.etcd.endpoints() {
        let member: SocketAddr = endpoint.trim_start_matches("http://").parse()?;
        let passed_on = forward(&format!("{}:0", namespace.here(TO_ETCD)), member)?;
        etcd.push(format!("http://{passed_on}"));
    }
    let address = format!("{}:7070", namespace.there(TO_ALL));
    all.place(0, &namespace.within(), &address, etcd);
    all.start_one(0)?;
    assert_eq!(all.next_leader(None)?, 0);
    all.start_one(1)?;
    let ledger = all.sandbox.path().join("ledger").display().to_string();
    let spec = all.sandbox.write("steps.yaml", &steps_job(&ledger))?;
    let _worker = all.sandbox.worker("worker-a", 4)?;
    let job = all
        .sandbox
        .submit(&spec, &["--set", "searcher.max_trials=6"])?;
    running(&all.sandbox, &job, 4)?;

    namespace.cut(TO_ETCD, Cut::Both)?;
    let quick = all.sandbox.write("quick.yaml", QUICK)?;
    let written = all.sandbox.submit(&quick, &[])?;
    assert_eq!(all.leader()?, Some(1));
    let old = all.process(0)?;
    wait_for("the one that is cut off to notice", || {
        let log = old.log();
        Ok(log.contains("this coordinator leads no more").then_some(()))
    })?;
    namespace.mend(TO_ETCD, Cut::Both)?;
    all.sandbox.completed(&job)?;
    all.sandbox.completed(&written)?;
    assert_never_restarted(&all.sandbox, &job, 6)?;
    assert_eq!(std::fs::read_to_string(&ledger)?.lines().count(), 12);
    // It has come back and takes over when it is its turn.
    all.terminate(1)?;
    assert_eq!(all.next_leader(Some(1))?, 0);
    all.sandbox.json(&["describe", &job])?;
    Ok(())
}
