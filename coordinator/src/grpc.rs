//! The gRPC services: a thin shell that checks and converts messages and asks the driver.
//!
//! Owns the wire and the statuses; decides nothing about jobs.

mod calls;
mod convert;
mod found;
mod health;
mod incoming;
mod jobs;
mod limits;
mod logs;
mod outgoing;
mod pages;
mod receiving;
mod search_log;
mod status;
mod tail;
#[cfg(test)]
mod testing;
mod watch;
mod woken;
mod workers;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use trainyard_proto::MAX_MESSAGE_BYTES;
use trainyard_proto::v1::job_service_server::JobServiceServer;
use trainyard_proto::v1::worker_service_server::WorkerServiceServer;

use crate::CoordinatorConfig;
use crate::clients::Tally;
use crate::driver::Seat;
use calls::Counted;
use incoming::incoming;
use jobs::Jobs;
use receiving::{Patience, Receiving};
use workers::Workers;

/// A connection that says nothing for this long is asked whether its peer lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// And is closed when no answer comes for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls that one connection may have open: as many as HTTP/2 recommends at least, and some.
const MAX_STREAMS: u32 = 256;

/// What the headers of one call may hold, bytes: they name the call and little else.
const MAX_HEADERS: u32 = 16 * 1024;

/// Streams that a client has ended and the server has not noticed yet; beyond it the connection is closed.
const MAX_RESET_STREAMS: usize = 32;

/// What a client may send before it is read, bytes: of one call, and of one connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The largest message of a person's tool: a spec of 1 MiB and its frame.
const MAX_REQUEST_BYTES: usize = (1024 + 64) * 1024;

/// And of who follows a log: the positions of all trials in it.
const MAX_POSITIONS_BYTES: usize = 4 * 1024 * 1024;
const POSITIONS_PATH: &str = "/trainyard.v1.JobService/StreamLogs";

/// The one call of a person's tool that sends more than one message.
const UPLOAD_PATH: &str = "/trainyard.v1.JobService/UploadBundle";

/// Open calls in all. A worker has one, a person few.
const MAX_CALLS: usize = 65_536;

/// Open calls that watch a job or read its log.
const MAX_WATCHERS: usize = 4_096;

const MIB: usize = 1024 * 1024;

/// Files that connections leave to everything else: the store, probes, the log.
const OTHER_FILES: u64 = 128;

/// With fewer files than these, somebody is told.
const FEW_FILES: u64 = 4_096;

/// How many of what may be open at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    connections: usize,
    connections_of_one: usize,
    calls_of_one: usize,
    watchers_of_one: usize,
    receiving: usize,
    receiving_of_one: usize,
    request_timeout: Duration,
    /// After so long without a word a worker counts as lost.
    worker_lease: Duration,
    /// The longest bundle of code, bytes.
    bundle: u64,
}

impl Limits {
    /// As configured, and no more connections than this process may have files.
    pub(crate) fn of(config: &CoordinatorConfig) -> Self {
        let files = trainyard_common::files::limit();
        let mut connections = config.max_connections as usize;
        if let Some(files) = files {
            let left = files.saturating_sub(OTHER_FILES).max(files / 2);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if files < FEW_FILES && left < connections {
                tracing::warn!(
                    files,
                    connections = left,
                    "this process may have few files open, so few connections; raise `ulimit -n`"
                );
            }
            connections = connections.min(left);
        }
        Self {
            connections,
            // However few there are, half of them are left to others.
            connections_of_one: (config.max_connections_per_client as usize)
                .min(connections.div_ceil(2)),
            calls_of_one: config.max_calls_per_client as usize,
            watchers_of_one: config.max_watchers_per_client as usize,
            receiving: config.max_receiving_mib as usize * MIB,
            receiving_of_one: config.max_receiving_mib_per_client as usize * MIB,
            request_timeout: Duration::from_millis(u64::from(config.request_timeout_ms)),
            worker_lease: Duration::from_millis(u64::from(config.worker_lease_ms)),
            bundle: u64::from(config.max_bundle_mib) << 20,
        }
    }
}

/// The largest message of a call of `JobService`.
fn largest_request(path: &str) -> usize {
    match path {
        POSITIONS_PATH => MAX_POSITIONS_BYTES,
        _ => MAX_REQUEST_BYTES,
    }
}

/// Serves on `listener`, for the loop of `seat` while it leads, until `closing`, then until the open calls have ended. `tasks` joins what
/// sessions start.
pub(crate) async fn serve(
    seat: Seat,
    listener: TcpListener,
    limits: Limits,
    closing: CancellationToken,
    tasks: TaskTracker,
) -> Result<(), tonic::transport::Error> {
    let calls = Tally::new(MAX_CALLS, limits.calls_of_one);
    let watchers = Tally::new(MAX_WATCHERS, limits.watchers_of_one);
    let health = health::service(seat.clone(), closing.clone(), &tasks).await;
    let jobs = JobServiceServer::new(Jobs::new(seat.clone(), watchers, limits.bundle))
        .max_decoding_message_size(MAX_POSITIONS_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkerServiceServer::new(Workers::new(seat, tasks))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let requests = Receiving {
        room: Tally::new(limits.receiving, limits.receiving_of_one),
        most: largest_request,
        patience: Patience::Request(limits.request_timeout),
    };
    let messages = Receiving {
        most: |_| MAX_MESSAGE_BYTES,
        // Its heartbeats are behind the message: beyond this it counts as lost in any case.
        patience: Patience::Message(limits.worker_lease),
        ..requests.clone()
    };
    let incoming = incoming(listener, limits.connections, limits.connections_of_one);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESET_STREAMS))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .trace_fn(|request| tracing::info_span!("rpc", method = %request.uri().path()))
        .add_service(Counted::new(health, &calls, requests.clone()))
        .add_service(Counted::new(jobs, &calls, requests))
        .add_service(Counted::new(workers, &calls, messages))
        .serve_with_incoming_shutdown(incoming, closing.cancelled_owned())
        .await
}
