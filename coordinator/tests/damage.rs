//! A damaged database: told with what to do, at the start and when it is found later.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::process::{Command, Stdio};

use support::{FakeWorker, Local, client, job, soon, submit};
use tonic::Code;
use trainyard_proto::v1::StreamLogsRequest;

/// Pages of the database.
const PAGE: usize = 4096;

#[tokio::test]
async fn a_coordinator_that_reads_rotten_pages_ends_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut asking = client(&coordinator.address).await;
    let job_id = submit(&mut asking, "r", &job("a", 1)).await.unwrap();
    let mut worker = FakeWorker::join(&coordinator.address, "w", 1).await;
    let assignment = worker.assignment().await;
    for number in 1..=400 {
        let text = format!("a rather long line, number {number}, so that there are many pages");
        worker.line(&assignment, number, &text).await;
    }
    worker.lines_stored(400).await;
    drop(worker);
    coordinator.stop().await;

    // What it has checked at its start rots afterwards.
    let coordinator = Local::start(directory.path()).await;
    let path = directory.path().join("state.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let mut rotten = 0;
    for page in bytes.chunks_mut(PAGE).skip(1) {
        if page.windows(11).any(|text| text == b"rather long") {
            page.fill(0xA5);
            rotten += 1;
        }
    }
    assert!(rotten > 5, "{rotten} pages");
    std::fs::write(&path, &bytes).unwrap();
    let mut asking = client(&coordinator.address).await;
    let request = StreamLogsRequest {
        job_id,
        ..StreamLogsRequest::default()
    };
    let told = async {
        let mut lines = asking.stream_logs(request).await?.into_inner();
        while lines.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let told = soon("the lines", told).await.unwrap_err();
    let failed = coordinator.failed().await.to_string();
    for part in ["state.redb is damaged", "put a copy of the data directory"] {
        assert!(failed.contains(part), "{failed}");
        // Or the connection has ended with the coordinator before that.
        let said = told.code() == Code::DataLoss;
        assert!(!said || told.message().contains(part), "{told}");
    }
}

#[test]
fn an_empty_database_is_no_new_cluster() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("state.redb"), "").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_coordinator"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("it is empty (0 bytes)"), "{said}");
    assert!(said.contains("move it away to begin"), "{said}");
}
