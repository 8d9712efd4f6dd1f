//! The gRPC services: a thin shell that checks and converts messages and asks the driver.
//!
//! Owns the wire and the statuses; decides nothing about jobs.

mod convert;
mod found;
mod health;
mod jobs;
mod logs;
mod outgoing;
mod pages;
mod search_log;
mod status;
mod watch;
mod workers;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use trainyard_proto::MAX_MESSAGE_BYTES;
use trainyard_proto::v1::job_service_server::JobServiceServer;
use trainyard_proto::v1::worker_service_server::WorkerServiceServer;

use crate::driver::Seat;
use jobs::Jobs;
use workers::Workers;

/// A connection that says nothing for this long is asked whether its peer lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// And is closed when no answer comes for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves on `listener`, for the loop of `seat` while it leads, until `closing`, then until the open calls have ended. `tasks` joins what
/// sessions start.
pub(crate) async fn serve(
    seat: Seat,
    listener: TcpListener,
    closing: CancellationToken,
    tasks: TaskTracker,
) -> Result<(), tonic::transport::Error> {
    let health = health::service(seat.clone(), closing.clone(), &tasks).await;
    let jobs = JobServiceServer::new(Jobs::new(seat.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkerServiceServer::new(Workers::new(seat, tasks))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .trace_fn(|request| tracing::info_span!("rpc", method = %request.uri().path()))
        .add_service(health)
        .add_service(jobs)
        .add_service(workers)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            closing.cancelled_owned(),
        )
        .await
}
