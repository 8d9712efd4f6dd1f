//! `grpc.health.v1.Health`, for probes: what this coordinator can do right now.
//!
//! The whole server (the empty name) is serving for as long as calls are answered at all; each of the
//! two services is serving while this coordinator leads. A probe that restarts a process asks for the
//! first: a coordinator that does not lead is in order.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};
use trainyard_proto::v1::job_service_server::JobServiceServer;
use trainyard_proto::v1::worker_service_server::WorkerServiceServer;

use super::jobs::Jobs;
use super::workers::Workers;
use crate::driver::Seat;

/// The empty name: the server as a whole.
const WHOLE: &str = "";

/// What only the leader serves.
const LED: [&str; 2] = [
    <JobServiceServer<Jobs> as NamedService>::NAME,
    <WorkerServiceServer<Workers> as NamedService>::NAME,
];

/// The service of a coordinator until `closing`; then nothing is served any more, and who watches is
/// told so and let go, so that no open call holds the end up.
pub(super) async fn service(
    mut seat: Seat,
    closing: CancellationToken,
    tasks: &TaskTracker,
) -> HealthServer<impl Health> {
    let (mut reporter, service) = health_reporter();
    set(&reporter, &LED, status(&seat)).await;
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                () = seat.changed() => set(&reporter, &LED, status(&seat)).await,
            }
        }
        for names in [&LED[..], &[WHOLE]] {
            set(&reporter, names, ServingStatus::NotServing).await;
            for name in names {
                reporter.clear_service_status(name).await;
            }
        }
    });
    service
}

fn status(seat: &Seat) -> ServingStatus {
    if seat.leads() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

async fn set(reporter: &HealthReporter, names: &[&str], status: ServingStatus) {
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}
