//! A stranger under a worker's id, and a worker that names the address of another, over real sockets.

mod support;

use std::net::TcpListener;

use support::{FakeWorker, Local, client, job, registration, soon, submit};
use tonic::Code;
use trainyard_proto::v1::*;

#[tokio::test]
async fn a_stranger_is_refused_and_the_worker_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let mut client = client(&coordinator.address).await;
    submit(&mut client, "r-1", &job("own", 1)).await.unwrap();
    let mut worker = FakeWorker::join(&coordinator.address, "w-1", 1).await;
    let assignment = worker.assignment().await;
    let stranger = |secret: Vec<u8>| {
        let register = Register {
            secret,
            ..registration("w-1", 1)
        };
        FakeWorker::register_as(&coordinator.address, register)
    };
    for (secret, code) in [
        (vec![8; 32], Code::PermissionDenied),
        (Vec::new(), Code::PermissionDenied),
        (vec![7; 15], Code::InvalidArgument),
        (vec![7; 65], Code::InvalidArgument),
    ] {
        let refused = stranger(secret).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(!refused.message().contains("7, 7"), "{refused}");
    }
    let forget = ForgetWorkerRequest {
        worker_id: "w-1".to_owned(),
    };
    let refused = client.forget_worker(forget.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    worker.finish(&assignment, 0.5).await;
    drop(worker);
    // Nobody has its secret any more: an operator lets the id go.
    let forgotten = async {
        while client.forget_worker(forget.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the worker to be forgotten", forgotten).await;
    stranger(vec![8; 32]).await.unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn the_address_of_another_is_not_knocked_at() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    // Whom strangers name, and where a worker really listens.
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for round in 0..8 {
        for (id, address) in [
            ("scanner", elsewhere.local_addr().unwrap()),
            ("worker", there.local_addr().unwrap()),
        ] {
            let register = Register {
                collective_address: address.to_string(),
                ..registration(&format!("{id}-{round}"), 1)
            };
            // Asked again when it goes.
            let joined = FakeWorker::register_as(&coordinator.address, register);
            drop(joined.await.unwrap());
        }
        soon("a knock at the worker's own address", there.accept())
            .await
            .unwrap();
    }
    let knocked = elsewhere.accept().map(|(_, from)| from);
    assert!(
        knocked
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "{knocked:?}"
    );
    coordinator.stop().await;
}
