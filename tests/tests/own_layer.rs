//! A program with a layer of its own, built from the example's crate: it trains, shows and checks the layer, and
//! `coordinatorctl` says that it knows none such.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use trainyard_tests::{Sandbox, example, program};

/// What the example's program says with `--output json`.
fn own(sandbox: &Sandbox, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(program("own-layer")?)
        .args(arguments)
        .args(["--output", "json"])
        .current_dir(sandbox.path())
        .stdin(Stdio::null())
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).context("no JSON")
}

#[test]
fn a_program_trains_with_a_layer_of_its_own() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let job = example("own-layer/job.yaml");
    let summary = own(&sandbox, &["model", "summary", &job])?;
    assert_eq!(summary["layers"][0]["layer"], "gate", "{summary:#}");
    // Two halves of 64 to 32 and their biases.
    assert_eq!(summary["layers"][0]["parameters"], 2 * (64 * 32 + 32));

    let run = own(&sandbox, &["run", &job])?;
    assert_eq!(run["job"]["state"], "completed", "{run:#}");
    let accuracy = run["job"]["test_metrics"]["test_accuracy"].as_f64();
    assert!(accuracy.context("not judged")? > 0.8, "{accuracy:?}");

    let refused = sandbox.ctl(&["validate", &job])?;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let told = "model.layers[0]: unknown word `gated`";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    Ok(())
}
