//! One trial on several worker processes ends in the bytes that one process makes.

use anyhow::Result;
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
        ],
    )?;
    sandbox.completed(&job)?;
    let trial = sandbox.json(&["trial", "describe", &job, "0"])?;
    let ranks = trial["trial"]["attempts"][0]["ranks"]
        .as_array()
        .map(Vec::len);
    assert_eq!(ranks, Some(slots as usize), "{trial:#}");
    sandbox.tensors(&job, 0)
}

#[test]
fn one_two_and_three_processes_end_in_the_same_bytes() -> Result<()> {
    let one = trained_on(1)?;
    assert!(one.len() > 1_000);
    assert!(one == trained_on(2)?, "two ranks differ from one");
    assert!(one == trained_on(3)?, "three ranks differ from one");
    Ok(())
}
