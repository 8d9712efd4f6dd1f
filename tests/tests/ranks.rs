//! One trial on several worker processes ends in the bytes that one process makes.

use anyhow::{Context as _, Result, ensure};
use trainyard_tests::{Sandbox, example};

fn trained_on(slots: u32) -> Result<Vec<u8>> {
    let mut sandbox = Sandbox::new()?;
    let _coordinator = sandbox.coordinator(5_000)?;
    let mut workers = Vec::new();
    for number in 0..slots {
        workers.push(sandbox.worker(&format!("worker-{number}"), 1)?);
    }
    let slots_set = format!("resources.slots_per_trial={slots}");
    let job = sandbox.submit(
        &example("two-ranks.yaml"),
        &[
            "--set",
            &slots_set,
            "--set",
            "training.virtual_shards=4",
            "--set",
            "training.epochs=2",
            "--set",
            "checkpoint_storage.keep_last=2",
        ],
    )?;
    sandbox.completed(&job)?;
    let trial = sandbox.json(&["trial", "describe", &job, "0"])?;
    let ranks = trial["trial"]["attempts"][0]["ranks"]
        .as_array()
        .map(Vec::len);
    assert_eq!(ranks, Some(slots as usize), "{trial:#}");
    trains_the_same_again(&sandbox, &job)?;
    sandbox.tensors(&job, 0)
}

/// Alone, in the process of the command line, from the first checkpoint to the second.
fn trains_the_same_again(sandbox: &Sandbox, job: &str) -> Result<()> {
    let verified = sandbox.json(&["trial", "verify", job, "0", "--replay", "1000000"])?;
    let stretches = verified["replayed"]
        .as_array()
        .context("nothing replayed")?;
    ensure!(stretches.len() == 2, "{verified:#}");
    for stretch in stretches {
        ensure!(stretch["same"] == true, "{verified:#}");
        ensure!(
            stretch["processors"][0] == verified["processor"],
            "{verified:#}"
        );
        ensure!(stretch["values"].as_u64() > Some(1_000), "{verified:#}");
    }
    let short = sandbox.ctl(&["trial", "verify", job, "0", "--replay", "1"])?;
    ensure!(short.code == 2, "{}", short.stderr);
    ensure!(
        short.stderr.contains("the shortest stretch"),
        "{}",
        short.stderr
    );
    Ok(())
}

#[test]
fn a_checkpoint_that_has_rotted_is_found() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let spec = example("digits.yaml");
    let short = [
        "--set",
        "searcher.max_trials=1",
        "--set",
        "training.epochs=1",
        "--limit",
        "600",
    ];
    let run = sandbox.json(&[&["run", &spec][..], &short].concat())?;
    let job = run["job"]["job_id"].as_str().context("no job_id")?;
    let data = sandbox.path().join("trainyard-data").display().to_string();
    let verify = || {
        let steps = ["--replay", "1000000", "--data-dir", &data];
        sandbox.ctl(&[&["trial", "verify", job, "0"][..], &steps].concat())
    };
    let told = verify()?;
    ensure!(told.code == 0, "{}{}", told.stdout, told.stderr);
    ensure!(told.stdout.contains(": the same, "), "{}", told.stdout);
    let url = run["job"]["checkpoint_url"].as_str().context("no URL")?;
    let parts = format!("{}/trials/0/parts", url.trim_start_matches("file://"));
    let generation = std::fs::read_dir(&parts)?
        .next()
        .context("no generation")??;
    let part = std::fs::read_dir(generation.path())?
        .next()
        .context("no part")??;
    let mut bytes = std::fs::read(part.path())?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(part.path(), bytes)?;
    let told = verify()?;
    ensure!(told.code == 1, "{}{}", told.stdout, told.stderr);
    ensure!(told.stdout.contains("NOT WHOLE"), "{}", told.stdout);
    Ok(())
}

#[test]
fn one_two_and_three_processes_end_in_the_same_bytes() -> Result<()> {
    let one = trained_on(1)?;
    assert!(one.len() > 1_000);
    assert!(one == trained_on(2)?, "two ranks differ from one");
    assert!(one == trained_on(3)?, "three ranks differ from one");
    Ok(())
}
