//! What probes are told: a coordinator that leads serves everything, until it stops.

mod support;

use support::{Local, soon};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn a_leader_serves_and_lets_watchers_go_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Local::start(directory.path()).await;
    let address = format!("http://{}", coordinator.address);
    let endpoint = Endpoint::from_shared(address).unwrap();
    let mut client = HealthClient::new(soon("a connection", endpoint.connect()).await.unwrap());
    let serving = i32::from(ServingStatus::Serving as u8);
    for service in ["", "trainyard.v1.JobService", "trainyard.v1.WorkerService"] {
        let answer = soon(service, client.check(of(service))).await.unwrap();
        assert_eq!(answer.into_inner().status, serving, "{service}");
    }
    let unknown = client.check(of("trainyard.v1.NoService")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);

    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving);
    coordinator.stop().await;
    // Told, or at least let go: the stop did not wait for this stream.
    while let Ok(Some(status)) = soon("the stream to end", watch.message()).await {
        assert_ne!(status.status, serving);
    }
}
