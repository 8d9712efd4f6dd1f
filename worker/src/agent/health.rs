//! `grpc.health.v1.Health` of a worker, for probes: whether its loop goes round, and whether a
//! coordinator has taken it in.
//!
//! The whole server (the empty name) is serving while the loop that keeps the session goes round: a
//! coordinator that is away is no reason to restart a worker, whose trials train on meanwhile.
//! `trainyard.v1.WorkerService` is serving while a coordinator may place trials here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::WorkerError;

/// A loop that has not come round for this long hangs. Above the longest heartbeat interval that a
/// coordinator may ask for (60 s) and the longest that connecting and registering may take.
const LONGEST_TURN: Duration = Duration::from_secs(90);

/// How often what probes are told is brought up to date.
const REFRESH: Duration = Duration::from_millis(500);

/// The empty name: the server as a whole.
const WHOLE: &str = "";

/// The session with a coordinator, under the name of the service that it speaks.
const SESSION: &str = "trainyard.v1.WorkerService";

/// What the worker's loop leaves behind as it goes round.
#[derive(Debug)]
pub(super) struct Pulse {
    started: Instant,
    /// Milliseconds from `started` to the last turn.
    last_turn_ms: AtomicU64,
    registered: AtomicBool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            last_turn_ms: AtomicU64::new(0),
            registered: AtomicBool::new(false),
        }
    }

    /// The loop has come round once more.
    pub(super) fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        self.last_turn_ms.store(self.ms(now), Ordering::Relaxed);
    }

    /// A coordinator has taken the worker in, or is gone.
    pub(super) fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Relaxed);
    }

    fn ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn goes_round_at(&self, now: Instant) -> bool {
        let last_ms = self.last_turn_ms.load(Ordering::Relaxed);
        let silent_ms = self.ms(now).saturating_sub(last_ms);
        u128::from(silent_ms) < LONGEST_TURN.as_millis()
    }
}

/// Answers probes on `address` until the handle is dropped.
///
/// # Errors
/// [`WorkerError::BindHealth`] when the address cannot be listened on.
pub(super) async fn start(
    address: &str,
    pulse: Arc<Pulse>,
    leaving: CancellationToken,
) -> Result<AbortOnDropHandle<()>, WorkerError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| WorkerError::BindHealth {
            address: address.to_owned(),
            source,
        })?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!(%bound, "answering probes");
    }
    let (reporter, service) = health_reporter();
    tell(&reporter, &pulse, &leaving).await;
    let serving = Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener));
    let work = async move {
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!(%error, "probes are not answered any more");
            },
            () = keep_telling(&reporter, &pulse, &leaving) => {}
        }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(work)))
}

async fn keep_telling(reporter: &HealthReporter, pulse: &Pulse, leaving: &CancellationToken) {
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        refresh.tick().await;
        tell(reporter, pulse, leaving).await;
    }
}

async fn tell(reporter: &HealthReporter, pulse: &Pulse, leaving: &CancellationToken) {
    let status = |serving| match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    let alive = pulse.goes_round_at(Instant::now());
    let taken_in = alive && pulse.registered.load(Ordering::Relaxed) && !leaving.is_cancelled();
    reporter.set_service_status(WHOLE, status(alive)).await;
    reporter.set_service_status(SESSION, status(taken_in)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_told() {
        let pulse = Pulse::new();
        let turn = pulse.started + LONGEST_TURN / 2;
        pulse.beat_at(turn);
        let last = turn + LONGEST_TURN;
        assert!(pulse.goes_round_at(last - Duration::from_millis(1)));
        assert!(!pulse.goes_round_at(last));
        pulse.beat_at(last);
        assert!(pulse.goes_round_at(last));
    }
}
