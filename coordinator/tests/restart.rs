//! Coordinators as processes: killed and started again, and two on one directory or port.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{FakeWorker, Local, Process, client, ended, job, progress, running, saved, submit};
use trainyard_proto::v1::*;

#[tokio::test]
async fn a_killed_coordinator_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let first = Process::start(&data).await;
    let mut before = client(&first.address).await;
    let job_id = submit(&mut before, "r-1", &job("kill", 1)).await.unwrap();
    let mut worker = FakeWorker::join(&first.address, "w-1", 1).await;
    let term = worker.term;
    let assignment = worker.assignment().await;
    worker.report(&assignment, progress(1, 0.5)).await;
    let last = worker.report(&assignment, saved(&assignment, 1, 0.5)).await;
    worker.logs(&assignment, &["before"]).await;
    worker.acknowledged(last).await;
    first.kill();

    let second = Process::start(&data).await;
    let mut after = client(&second.address).await;
    // The same request, because its answer might have been lost.
    let again = submit(&mut after, "r-1", &job("kill", 1)).await.unwrap();
    assert_eq!(again, job_id);
    let mut worker = worker
        .again(&second.address, vec![running(&assignment)])
        .await;
    assert!(worker.term > term, "a new leadership");
    assert!(worker.registered.abandon.is_empty(), "it keeps its attempt");
    worker.report(&assignment, progress(2, 0.75)).await;
    worker
        .report(&assignment, saved(&assignment, 2, 0.75))
        .await;
    worker.report(&assignment, ended(2, Vec::new())).await;
    let judge = worker.assignment().await;
    assert_eq!(judge.kind(), AssignmentKind::Evaluate);
    assert!(judge.generation > assignment.generation);
    let last = worker
        .report(&judge, ended(2, vec![("test_accuracy", 0.7)]))
        .await;
    worker.acknowledged(last).await;
    second.kill();

    // What was acknowledged is there, whoever asks.
    let third = Local::start(&data).await;
    let mut later = client(&third.address).await;
    let request = GetJobRequest {
        job_id: job_id.clone(),
    };
    let summary = later.get_job(request).await.unwrap().into_inner();
    let summary = summary.job.unwrap();
    assert_eq!(summary.state(), JobState::Completed);
    assert_eq!(summary.best_value, Some(0.75));
    let request = GetTrialRequest {
        job_id,
        trial_id: 0,
        ..Default::default()
    };
    let trial = later.get_trial(request).await.unwrap().into_inner();
    let steps: Vec<_> = trial.points.iter().map(|point| point.step).collect();
    assert_eq!(steps, [10, 20]);
    assert_eq!(
        trial.trial.unwrap().attempts.len(),
        1,
        "one attempt, one result"
    );
    third.stop().await;
}

/// Runs a coordinator that must not start, and what it says.
fn refused(arguments: &[&str], data: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let first = Process::start(&data).await;
    let free = ["--listen", "127.0.0.1:0"];
    let text = refused(&free, &data);
    assert!(
        text.contains("another coordinator is using the data directory"),
        "{text}"
    );
    assert!(!text.contains("listening on"), "{text}");
    let other = directory.path().join("other");
    let text = refused(&["--listen", &first.address], &other);
    assert!(
        text.contains(&format!("cannot listen on {}", first.address)),
        "{text}"
    );
    let text = refused(&["--listen", "nowhere"], &other);
    assert!(text.contains("listen"), "{text}");
    let text = refused(&["--worker-lease-ms", "5"], &other);
    assert!(text.contains("worker_lease_ms"), "{text}");
    assert!(
        !other.exists(),
        "nothing is made before the configuration is checked"
    );
    let file = directory.path().join("file.yaml");
    std::fs::write(&file, "lease_msec: 5000\n").unwrap();
    let text = refused(&["--config", file.to_str().unwrap()], &other);
    assert!(
        text.contains("file.yaml") && text.contains("lease_msec"),
        "{text}"
    );
    let text = refused(&free, &file);
    assert!(text.contains("file.yaml"), "{text}");
}
