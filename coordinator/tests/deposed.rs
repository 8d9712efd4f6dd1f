//! A leader whose lease runs out while a write to the object store hangs: it stands back at once.

#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::time::Duration;

use support::{FakeWorker, Process, client, job, soon, submit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use trainyard_common::testing::EtcdCluster;
use trainyard_proto::v1::ListJobsRequest;

/// An object store that takes every request and answers none.
struct Hanging {
    url: String,
    /// How many connections it has taken.
    taken: watch::Receiver<usize>,
}

impl Hanging {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (count, taken) = watch::channel(0);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                open.push(connection);
                count.send_modify(|count| *count += 1);
            }
        });
        Self { url, taken }
    }

    async fn asked(&mut self) {
        soon(
            "a write to the object store",
            self.taken.wait_for(|n| *n > 0),
        )
        .await
        .unwrap();
    }
}

/// Whether the coordinator says that it leads.
async fn leads(address: &str) -> bool {
    let mut health = HealthClient::new(support::channel(address).await);
    let request = HealthCheckRequest {
        service: "trainyard.v1.JobService".to_owned(),
    };
    let answer = soon("an answer about health", health.check(request)).await;
    answer.unwrap().into_inner().status() == ServingStatus::Serving
}

async fn until_leads(address: &str, expected: bool) {
    soon("the lead to change", async {
        while leads(address).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deposed_leader_stands_back_while_a_write_hangs() {
    let Some(cluster) = EtcdCluster::start("a_deposed_leader_stands_back_while_a_write_hangs", 1)
    else {
        return;
    };
    let mut store = Hanging::start().await;
    let directory = tempfile::tempdir().unwrap();
    let endpoints = cluster.endpoints().join(",");
    let checkpoints = directory.path().join("checkpoints").display().to_string();
    let flags = [
        "--etcd",
        &endpoints,
        "--checkpoint-url",
        &checkpoints,
        "--segment-url",
        "s3://bucket/segments",
        "--leader-lease-ms",
        "2000",
    ];
    let environment = [
        ("AWS_ENDPOINT_URL", store.url.as_str()),
        ("AWS_REGION", "nowhere"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let data = directory.path().join("data");
    let process = Process::start_in(&data, &flags, &environment).await;
    until_leads(&process.address, true).await;
    let mut client = client(&process.address).await;
    submit(&mut client, "one", &job("one", 1)).await.unwrap();
    let mut worker = FakeWorker::join(&process.address, "w", 1).await;
    // Why the trial was placed is an item of a series: the commit hangs with it.
    let session = tokio::spawn(async move {
        let placed = worker.until_assigned_or_ended().await;
        (placed, worker)
    });
    store.asked().await;
    cluster.stop(0);

    until_leads(&process.address, false).await;
    let refused = soon("an answer", client.list_jobs(ListJobsRequest::default())).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("does not lead"), "{refused}");
    let (placed, _worker) = soon("the session's end", session).await.unwrap();
    assert!(placed.is_err(), "nothing is sent that was not stored");

    // The commit was abandoned with the lease: nothing holds the next reign up.
    cluster.go_on(0);
    until_leads(&process.address, true).await;
    let jobs = soon("an answer", client.list_jobs(ListJobsRequest::default())).await;
    assert_eq!(jobs.unwrap().into_inner().jobs.len(), 1);
}
