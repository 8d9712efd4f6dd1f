//! From a spec to a judged model: in one process, and on separate ones.

use std::path::Path;

use anyhow::{Context, Result};
use trainyard_common::testing::report_skip;
use trainyard_tests::{Sandbox, example, wait_for};

const DIGITS_SHORT: [&str; 6] = [
    "--set",
    "searcher.max_trials=3",
    "--set",
    "training.epochs=3",
    "--limit",
    "600",
];

#[test]
fn digits_runs_in_one_process_and_is_judged() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let spec = example("digits.yaml");
    let run = sandbox.json(&[&["run", &spec][..], &DIGITS_SHORT].concat())?;
    assert_eq!(run["job"]["state"], "completed", "{run:#}");
    let trials = run["trials"].as_array().context("no trials")?;
    assert_eq!(trials.len(), 3);
    assert!(trials.iter().all(|trial| trial["state"] == "completed"));

    // The winner is the trial with the best validation value, and only it was judged on the test part.
    let best = run["job"]["best_value"].as_f64().context("no best value")?;
    let values = trials
        .iter()
        .filter_map(|trial| trial["best_value"].as_f64());
    assert_eq!(values.fold(f64::MIN, f64::max), best);
    let accuracy = run["job"]["test_metrics"]["test_accuracy"]
        .as_f64()
        .context("not judged")?;
    assert!(
        (0.3..=1.0).contains(&accuracy),
        "a trained network does better than chance: {accuracy}"
    );

    // What it left behind can be asked without any server.
    let data = sandbox.path().join("trainyard-data").display().to_string();
    let best = sandbox.json(&["best", "--data-dir", &data, job_id(&run)?])?;
    assert_eq!(best["trial"]["trial_id"], run["job"]["best_trial"]);
    Ok(())
}

fn job_id(answer: &serde_json::Value) -> Result<&str> {
    answer["job"]["job_id"].as_str().context("no job_id")
}

#[test]
fn same_seed_same_search_and_same_results() -> Result<()> {
    let runs = [1, 2].map(|slots: u32| -> Result<_> {
        let sandbox = Sandbox::new()?;
        let (spec, slots) = (example("digits.yaml"), slots.to_string());
        let arguments = [&["run", &spec, "--slots", &slots][..], &DIGITS_SHORT].concat();
        let run = sandbox.json(&arguments)?;
        let trials = run["trials"].as_array().context("no trials")?.clone();
        Ok(trials
            .iter()
            .map(|trial| (trial["params"].clone(), trial["metrics"].clone()))
            .collect::<Vec<_>>())
    });
    let [one, two] = runs;
    assert_eq!(
        one?, two?,
        "slots and their threads must not change a result"
    );
    Ok(())
}

#[test]
fn every_other_example_runs() -> Result<()> {
    for (name, more) in [
        (
            "two-ranks.yaml",
            &["--set", "training.epochs=1", "--limit", "200"][..],
        ),
        ("residual.yaml", &["--limit", "200"]),
        ("lstm.yaml", &["--set", "training.epochs=2"]),
        ("program.yaml", &[]),
        ("channel.yaml", &[]),
    ] {
        let sandbox = Sandbox::new()?;
        let run = sandbox.json(&[&["run", &example(name)][..], more].concat())?;
        assert_eq!(run["job"]["state"], "completed", "{name}: {run:#}");
    }
    Ok(())
}

/// The same search on one slot as in the example, shortened: promotions by the values that were reported.
#[test]
fn asha_promotes_from_checkpoints_and_explains_itself() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let run = sandbox.json(&[
        "run",
        &example("asha.yaml"),
        "--slots",
        "1",
        "--limit",
        "300",
        "--set",
        "searcher.max_trials=9",
    ])?;
    assert_eq!(run["job"]["state"], "completed", "{run:#}");
    let trials = run["trials"].as_array().context("no trials")?;
    assert_eq!(trials.len(), 9);
    let reached = |epochs: u64| {
        let there = trials.iter().filter(|trial| trial["epoch"] == epochs);
        there.collect::<Vec<_>>()
    };
    // Nine results on the first rung promote three, three on the second promote one.
    assert_eq!(
        (reached(1).len(), reached(3).len(), reached(9).len()),
        (6, 2, 1)
    );
    let top = reached(9)[0];
    let attempts = top["attempts"].as_array().context("no attempts")?;
    assert_eq!(attempts.len(), 3, "{top:#}");
    let data = sandbox.path().join("trainyard-data").display().to_string();
    let id = top["trial_id"].to_string();
    let (job, explain) = (job_id(&run)?, ["trial", "explain", "--data-dir", &data]);
    let told = sandbox.json(&[&explain[..], &[job, &id]].concat())?;
    let what: Vec<&str> = told["decisions"]
        .as_array()
        .context("no decisions")?
        .iter()
        .filter_map(|decision| decision["what"].as_str())
        .collect();
    let rung = ["placed", "paused", "promoted"];
    let mut expected = vec!["suggested"];
    expected.extend([rung, rung].concat());
    expected.extend(["placed", "completed"]);
    assert_eq!(what[..expected.len()], expected, "{told:#}");
    Ok(())
}

/// Members go on from each other's checkpoints, and neither slots nor their speed change what comes of it.
#[test]
fn a_population_copies_its_best_and_depends_on_no_slots() -> Result<()> {
    let runs = ["1", "3"].map(|slots| {
        let sandbox = Sandbox::new()?;
        let spec = example("pbt.yaml");
        let run = sandbox.json(&["run", &spec, "--slots", slots, "--limit", "400"])?;
        assert_eq!(run["job"]["state"], "completed", "{run:#}");
        let data = sandbox.path().join("trainyard-data").display().to_string();
        let job = job_id(&run)?;
        let mut copied = 0;
        for trial in 0..8 {
            let id = trial.to_string();
            let told = sandbox.json(&["trial", "explain", "--data-dir", &data, job, &id])?;
            let decisions = told["decisions"].as_array().context("no decisions")?;
            let reasons = decisions.iter().filter_map(|of| of["reason"].as_str());
            copied += reasons
                .filter(|why| why.contains("goes on from the weights"))
                .count();
        }
        let replayed = sandbox.json(&["replay", "--data-dir", &data, job])?;
        assert_eq!(replayed["same"], true, "{replayed:#}");
        let found = sandbox.json(&["insight", "--data-dir", &data, job, "--param", "lr"])?;
        assert_eq!(
            found["importance"].as_array().map(Vec::len),
            Some(2),
            "{found:#}"
        );
        let trials = run["trials"].as_array().context("no trials")?.iter();
        let came_to = trials.map(|trial| (trial["params"].clone(), trial["metrics"].clone()));
        Ok::<_, anyhow::Error>((copied, came_to.collect::<Vec<_>>()))
    });
    let [one, three] = runs;
    let one = one?;
    // The worst two of eight, at four of the five ends of an interval.
    assert_eq!(one.0, 8);
    assert_eq!(one, three?);
    Ok(())
}

#[test]
fn fashion_mnist_tuner_runs_on_the_real_files() -> Result<()> {
    if !Path::new("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz").exists() {
        report_skip(
            "fashion_mnist_tuner_runs_on_the_real_files",
            "no dataset-fashion-mnist",
        );
        return Ok(());
    }
    let sandbox = Sandbox::new()?;
    let spec = example("fashion-mnist-tuner.yaml");
    let run = sandbox.json(&[
        "run",
        &spec,
        "--limit",
        "1000",
        "--set",
        "searcher.max_trials=1",
        "--set",
        "training.epochs=1",
    ])?;
    let trial = &run["trials"][0];
    assert_eq!(run["job"]["state"], "completed", "{run:#}");
    assert!(
        trial["metrics"]["validation_accuracy"]
            .as_f64()
            .context("no accuracy")?
            > 0.3,
        "{trial:#}"
    );
    Ok(())
}

#[test]
fn separate_processes_and_every_verb() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let _workers = [
        sandbox.worker("worker-a", 1)?,
        sandbox.worker("worker-b", 1)?,
    ];
    let job = sandbox.submit(&example("digits.yaml"), &DIGITS_SHORT)?;

    let watched = sandbox.ctl(&["watch", &job])?;
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let described = sandbox.completed(&job)?;
    assert_eq!(described["job"]["trials_completed"], 3);

    let listed = sandbox.json(&["list"])?;
    assert_eq!(listed["jobs"][0]["job_id"], job.as_str());
    let best = sandbox.json(&["best", &job])?;
    assert_eq!(best["trial"]["trial_id"], described["job"]["best_trial"]);
    let workers = sandbox.json(&["worker", "list"])?;
    assert_eq!(workers["workers"].as_array().map(Vec::len), Some(2));

    let trials = sandbox.trials(&job)?;
    assert_eq!(trials.len(), 3);
    let trial = sandbox.json(&["trial", "describe", &job, "0"])?;
    let ends = trial["points"].as_array().context("no points")?;
    assert!(
        ends.iter()
            .filter(|p| p["metrics"]["validation_accuracy"].is_number())
            .count()
            == 3,
        "{trial:#}"
    );

    let logs = sandbox.ctl(&["logs", "-f", &job])?;
    assert_eq!(logs.code, 0);
    assert!(logs.stdout.contains("epoch 3"), "{}", logs.stdout);

    let checkpoints = sandbox.json(&["checkpoint", "list", &job])?;
    let count = checkpoints["checkpoints"]
        .as_array()
        .context("no checkpoints")?
        .len();
    assert!(
        (3..=6).contains(&count),
        "a best and a latest for each trial: {checkpoints:#}"
    );
    assert_eq!(sandbox.ctl(&["checkpoint", "verify", &job])?.code, 0);
    let tensors = sandbox.tensors(&job, 0)?;
    assert!(tensors.len() > 1_000, "{} bytes", tensors.len());

    assert_eq!(sandbox.ctl(&["wait", &job])?.code, 0);
    Ok(())
}

#[test]
fn cancel_ends_a_job_and_frees_its_slots() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let _worker = sandbox.worker("worker", 1)?;
    let long = sandbox.submit(&example("digits.yaml"), &["--set", "training.epochs=10000"])?;
    wait_for("a running trial", || {
        Ok(sandbox
            .trials(&long)?
            .iter()
            .any(|trial| trial["epoch"].as_u64() > Some(0))
            .then_some(()))
    })?;
    assert_eq!(sandbox.ctl(&["cancel", &long])?.code, 0);
    let described = sandbox.json(&["describe", &long])?;
    assert_eq!(described["job"]["state"], "cancelled");
    // The one slot is free again: another job gets it.
    let next = sandbox.submit(&example("digits.yaml"), &DIGITS_SHORT)?;
    sandbox.completed(&next)?;
    assert_eq!(sandbox.ctl(&["wait", &long])?.code, 1);
    Ok(())
}
