//! A worker's life beside its coordinator: one session, slots, and reports that outlive an outage.
//!
//! [`run`] is the whole of it. Attempts run on whether or not a coordinator is there; what they say
//! waits in the outbox until it is acknowledged. Knows nothing of how training works.

mod address;
mod attempts;
mod health;
mod host;
mod probe;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_common::backoff::Backoff;
use trainyard_common::ids::Term;
use trainyard_common::leader::{LeaderSearch, Next};
use trainyard_common::rng::Key;
use trainyard_proto::v1::Register;

use crate::collective::{Rendezvous, cpu_kind};
use crate::config::{ConfigError, WorkerConfig};
use crate::devices::Devices;
use crate::outbox::Outbox;
use crate::runner::{Absence, Host, Rules, Scratch};
use address::Facing;
use attempts::Attempts;
use health::Pulse;
use session::SessionEnd;

/// Beyond the coordinator's own deadline for closing, for the last bytes of a session.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

/// Wait after the first round in which no coordinator took this worker in.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait between rounds unless the lease asks for a shorter one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a worker ended other than by leaving in order.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("invalid configuration: {0}")]
    Config(#[from] ConfigError),
    #[error("cannot listen for peers on {address}: {source}")]
    Bind {
        address: String,
        source: std::io::Error,
    },
    #[error("cannot answer probes on {address}: {source}")]
    BindHealth {
        address: String,
        source: std::io::Error,
    },
    #[error(
        "no coordinator took this worker in at {addresses} within {seconds} s; is one running there? what was said: {last}"
    )]
    Unreachable {
        addresses: String,
        seconds: u64,
        last: String,
    },
    #[error("the coordinator at {address} refused this worker: {reason}")]
    Refused { address: String, reason: String },
    #[error(
        "left before everything was handed over: {attempts} attempts still running, {reports} reports not acknowledged"
    )]
    DrainIncomplete { attempts: usize, reports: usize },
}

/// Runs a worker until `shutdown`: registers, trains what it is given, and on shutdown lets running
/// attempts checkpoint, hands over their last reports and leaves.
///
/// # Errors
/// [`WorkerError`]; never because of anything that a trial did.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    config.validate()?;
    let facing = address::facing(&config.coordinators).await;
    let agent = Agent::bind(config, facing, shutdown)?;
    // Answered until this function returns.
    let _probes = match &agent.config.health_bind {
        Some(address) => {
            let leaving = agent.shutdown.clone();
            Some(health::start(address, agent.pulse.clone(), leaving).await?)
        }
        None => None,
    };
    tracing::info!(worker_id = %agent.host.worker_id, slots = agent.host.devices.len(), "worker started");
    let serve = agent.serve();
    tokio::pin!(serve);
    tokio::select! {
        result = &mut serve => result,
        result = agent.leave() => {
            agent.closing.cancel();
            let _ = tokio::time::timeout(CLOSE_DEADLINE, serve).await;
            result
        }
    }
}

/// What the parts of a worker share.
struct Agent {
    config: WorkerConfig,
    host: Arc<Host>,
    host_name: String,
    /// Shows the coordinator that it is this process which comes back.
    secret: [u8; 32],
    collective_address: String,
    outbox: Arc<Outbox>,
    attempts: Arc<Attempts>,
    /// The highest term that was obeyed.
    term: AtomicU64,
    started: Instant,
    /// What probes go by.
    pulse: Arc<Pulse>,
    /// The worker is to leave.
    shutdown: CancellationToken,
    /// Everything has been handed over: the session may end.
    closing: CancellationToken,
}

impl Agent {
    fn bind(
        config: WorkerConfig,
        facing: Facing,
        shutdown: CancellationToken,
    ) -> Result<Self, WorkerError> {
        let host_name = host::name();
        let rules = Rules::of(&config)?;
        let devices = Devices::of(&config)?;
        let to_bind = address::to_bind(&config, facing);
        let bind = |source| WorkerError::Bind {
            address: to_bind.clone(),
            source,
        };
        let listener = std::net::TcpListener::bind(&to_bind).map_err(bind)?;
        let rendezvous = Rendezvous::start(listener)
            .map_err(|error| bind(std::io::Error::other(error.to_string())))?;
        let bound = rendezvous.local_addr();
        let advertised = address::to_advertise(&config, facing, bound, &host_name);
        tracing::info!(%bound, %advertised, "accepting other workers");
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = config.name.as_ref().unwrap_or(&host_name);
        let scratch = scratch(&config, &rules);
        let host = Arc::new(Host {
            worker_id: format!("{name}-{}", &unique[..8]),
            threads_per_slot: config.threads(host::threads(), devices.len()),
            data_limits: config.data_limits(devices.len()),
            devices,
            single_process: config.single_process,
            absence: Absence::default(),
            rendezvous,
            log_lines_per_second: config.log_lines_per_second,
            watchdog: Arc::default(),
            launched: Default::default(),
            scratch,
            rules,
            bundles: Default::default(),
        });
        let outbox = Arc::new(Outbox::new(config.report_buffer));
        let attempts = Attempts::new(host.clone(), outbox.clone());
        Ok(Self {
            config,
            host,
            host_name,
            secret: secret(),
            collective_address: advertised,
            outbox,
            attempts: Arc::new(attempts),
            term: AtomicU64::new(0),
            started: Instant::now(),
            pulse: Arc::new(Pulse::new()),
            shutdown,
            closing: CancellationToken::new(),
        })
    }

    /// What this worker says of itself.
    fn register(&self) -> Register {
        Register {
            worker_id: self.host.worker_id.clone(),
            host: self.host_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices: self.host.devices.names(),
            collective_address: self.collective_address.clone(),
            cpu_kind: cpu_kind(),
            running: self.attempts.known(),
            term: self.term.load(Ordering::SeqCst),
            secret: self.secret.to_vec(),
            programs: Some(self.host.rules.allow()),
        }
    }

    /// The highest term seen, this one included.
    fn raise_term(&self, term: Term) -> Term {
        Term(self.term.fetch_max(term.0, Ordering::SeqCst).max(term.0))
    }

    /// Holds a session with the coordinator that leads, one after the other, until the worker has left.
    async fn serve(&self) -> Result<(), WorkerError> {
        let key = Key::new(0).named(&self.host.worker_id);
        let mut backoff = Backoff::new(key, FIRST_PAUSE, LONGEST_PAUSE);
        let mut search = LeaderSearch::new(self.config.coordinators.clone());
        let mut was_registered = false;
        let mut away_since = Instant::now();
        loop {
            self.pulse.beat();
            let address = search.current().to_owned();
            let opened = tokio::select! {
                opened = session::open(self, &address) => opened,
                () = self.closing.cancelled() => return Ok(()),
            };
            let end = match opened {
                Ok(session) => {
                    let lease = u64::from(session.registered.lease_ms);
                    tracing::info!(%address, term = self.term.load(Ordering::SeqCst), "registered");
                    was_registered = true;
                    // Within a lease there is time for several tries.
                    backoff.set_cap(Duration::from_millis(lease / 4).min(LONGEST_PAUSE));
                    search.succeeded();
                    self.pulse.set_registered(true);
                    self.host.absence.over();
                    let (begun, acknowledged) = (Instant::now(), self.outbox.acknowledged());
                    let end = session.run(self).await;
                    let moved = self.outbox.acknowledged() > acknowledged;
                    if was_of_use(moved, begun.elapsed(), Duration::from_millis(lease)) {
                        backoff.reset();
                    }
                    self.pulse.set_registered(false);
                    away_since = Instant::now();
                    let heard = away_since.checked_sub(session::UNNOTICED);
                    let contact = heard.map_or(begun, |heard| heard.max(begun));
                    let lease = Duration::from_millis(lease);
                    self.host.absence.begun(contact, lease);
                    end
                }
                Err(end) => end,
            };
            let (reason, leader) = match end {
                SessionEnd::Closed => return Ok(()),
                SessionEnd::Refused(reason) if !was_registered => {
                    return Err(WorkerError::Refused { address, reason });
                }
                SessionEnd::Refused(reason) => (reason, None),
                SessionEnd::Lost { reason, leader } => (reason, leader),
            };
            let next = search.failed(&reason, leader.as_deref());
            self.judge_absence(was_registered, away_since.elapsed(), &search.report())?;
            let wait = match next {
                Next::AtOnce => Duration::ZERO,
                Next::AfterPause => backoff.next_wait(),
            };
            let next_address = search.current();
            tracing::warn!(%address, %reason, next_address, retry_in_ms = wait.as_millis() as u64, "no coordinator");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.closing.cancelled() => return Ok(()),
            }
        }
    }

    /// What follows from the coordinator's having been away so long.
    fn judge_absence(
        &self,
        was_registered: bool,
        away: Duration,
        said: &str,
    ) -> Result<(), WorkerError> {
        match self.config.connect_timeout() {
            Some(limit) if !was_registered && away >= limit => Err(WorkerError::Unreachable {
                addresses: self.config.coordinators.join(", "),
                seconds: limit.as_secs(),
                last: said.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Waits for the shutdown, then for the attempts to stop and for their reports to be durable.
    async fn leave(&self) -> Result<(), WorkerError> {
        self.shutdown.cancelled().await;
        tracing::info!(attempts = self.attempts.count(), "leaving");
        self.attempts.leave();
        let handed_over = async {
            self.attempts.idle().await;
            self.outbox.flushed().await;
        };
        let limit = Duration::from_millis(self.config.drain_grace_ms);
        match tokio::time::timeout(limit, handed_over).await {
            Ok(()) => Ok(()),
            Err(_) => Err(WorkerError::DrainIncomplete {
                attempts: self.attempts.count(),
                reports: self.outbox.unacknowledged(),
            }),
        }
    }
}

/// Where attempts keep files. A worker of the built-in trainer alone needs no such place: without one,
/// programs end with the reason.
fn scratch(config: &WorkerConfig, rules: &Rules) -> Result<Scratch, String> {
    let scratch = Scratch::open(
        config.scratch_dir.as_deref(),
        rules.user().map(|user| &**user),
    );
    match &scratch {
        Ok(scratch) => scratch.start_sweep(),
        Err(error) => tracing::warn!("no programs can run here: {error}"),
    }
    scratch
}

/// Whether a session was such that the next may begin without delay. One that the coordinator ended at once for
/// what this worker told it may end so again, for ever.
fn was_of_use(acknowledged_reports: bool, lived: Duration, lease: Duration) -> bool {
    acknowledged_reports || lived >= lease
}

/// 244 random bits, for the life of this process.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let (first, second) = secret.split_at_mut(16);
    first.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    second.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ends_at_once_and_moves_nothing_is_not_come_back_from_at_once() {
        let lease = Duration::from_secs(30);
        assert!(!was_of_use(false, Duration::from_millis(70), lease));
        assert!(was_of_use(true, Duration::from_millis(70), lease));
        assert!(was_of_use(false, lease, lease));
        let mut backoff = Backoff::new(Key::new(0), FIRST_PAUSE, LONGEST_PAUSE);
        let waits: Duration = (0..10).map(|_| backoff.next_wait()).sum();
        assert!(waits > 10 * FIRST_PAUSE, "{waits:?}");
    }
}
