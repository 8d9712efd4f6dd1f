//! One of several coordinators: a standby until it leads, and a standby again when it does no more.
//!
//! The services answer all the time; while another coordinator leads they name it. What a leader may
//! do ends with its lease: the store refuses its writes, and the loop sends nothing any more. A reign
//! begins with the records that the last one left, and ends whole: nothing of it is used in the next.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::backoff::Backoff;
use trainyard_common::ids::Term;
use trainyard_common::rng::Key;

use super::warm::{self, Warm};
use super::{CoordinatorError, Task, machine, within, write_port_file};
use crate::config::CoordinatorConfig;
use crate::driver::clock::Clock;
use crate::driver::{Driver, DriverError, Leading, Seat, Standing};
use crate::grpc;
use crate::store::etcd::{EtcdSettings, EtcdStore, Following};
use crate::store::{AnyStore, StoreError};

/// Waits between tries while etcd does not answer: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As [`super::run_with`], with the records in etcd.
pub(super) async fn run(
    config: CoordinatorConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), CoordinatorError> {
    let address = listener
        .local_addr()
        .map_err(|error| CoordinatorError::Serve(error.to_string()))?;
    let advertised = match &config.advertise {
        Some(advertised) => advertised.clone(),
        None => address.to_string(),
    };
    let (standing, _) = watch::channel(Standing::Follows(None));
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let seat = Seat::following(&standing);
    let limits = grpc::Limits::of(&config);
    let serving = grpc::serve(seat, listener, limits, closing.clone(), tasks.clone());
    let mut server = Task {
        name: "grpc",
        handle: tokio::spawn(serving),
    };
    if let Some(path) = &config.port_file {
        write_port_file(path, address)?;
    }
    on_ready(address);
    tracing::info!(%address, advertised, "coordinator starts as a standby");
    let drain = Duration::from_millis(u64::from(config.drain_ms));
    let roles = Roles {
        settings: settings(&config, &advertised),
        config,
        advertised,
        standing,
        tasks: tasks.clone(),
        shutdown,
    };
    let mut result = tokio::select! {
        ended = Box::pin(roles.play()) => ended,
        ended = server.join() => return ended,
    };
    tracing::info!("coordinator stops");
    closing.cancel();
    result = result.and(within(&mut server, drain).await);
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!("some sessions or probes did not end in time");
    }
    result
}

fn settings(config: &CoordinatorConfig, advertised: &str) -> EtcdSettings {
    // Validation has made sure of the URL: without a checkpoint store, etcd is refused.
    let series = config.segment_url().unwrap_or_default();
    EtcdSettings {
        prefix: config.etcd_prefix.clone(),
        lease_ms: config.leader_lease_ms,
        flush_ms: config.segment_flush_ms,
        identity: advertised.to_owned(),
        quota_bytes: config.etcd_quota_bytes,
        compact: config.etcd_compact,
        user: config.etcd_user.clone(),
        password_file: config.etcd_password_file.clone(),
        ca_file: config.etcd_ca_file.clone(),
        cert_file: config.etcd_cert_file.clone(),
        key_file: config.etcd_key_file.clone(),
        ..EtcdSettings::new(config.etcd.clone(), series)
    }
}

/// What the roles of one coordinator share.
struct Roles {
    config: CoordinatorConfig,
    settings: EtcdSettings,
    advertised: String,
    standing: watch::Sender<Standing>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A leadership that begins: what is stored, and what was read of it before.
struct Won {
    term: Term,
    stored: Vec<(String, Bytes)>,
    warm: Warm,
}

/// A term as leader, and what ends it.
struct Reign {
    term: Term,
    driver: JoinHandle<Result<(), DriverError>>,
    /// Cancelled by the store when the lease has run out.
    lost: CancellationToken,
    /// Ends the loop.
    stop: CancellationToken,
    /// Ends the sessions and streams of this reign.
    closing: CancellationToken,
}

impl Roles {
    /// Standby, leader, standby, until the shutdown or a failure that only a person mends.
    async fn play(self) -> Result<(), CoordinatorError> {
        let Some(store) = self.connect().await? else {
            return Ok(());
        };
        loop {
            let Some(won) = Box::pin(self.stand_by(&store)).await? else {
                return Ok(());
            };
            let Some(reign) = Box::pin(self.begin(&store, won)).await? else {
                continue;
            };
            if let Ended::Shutdown = self.lead(&store, reign).await? {
                return Ok(());
            }
        }
    }

    /// Reaches etcd, however long that takes; `None` at the shutdown.
    async fn connect(&self) -> Result<Option<EtcdStore>, CoordinatorError> {
        let mut backoff = self.backoff();
        loop {
            let connected = tokio::select! {
                connected = EtcdStore::connect(self.settings.clone()) => connected,
                () = self.shutdown.cancelled() => return Ok(None),
            };
            match connected {
                Ok(store) => return Ok(Some(store)),
                Err(error) if error.is_retryable() => self.pause(&mut backoff, &error).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until this coordinator leads, naming the one that does meanwhile, and takes over what is
    /// stored; `None` at the shutdown.
    async fn stand_by(&self, store: &EtcdStore) -> Result<Option<Won>, CoordinatorError> {
        let mut backoff = self.backoff();
        let warm = Arc::new(Mutex::new(Warm::default()));
        loop {
            let following = async {
                let reading = warm::keep(store.follow(), Arc::clone(&warm));
                tokio::join!(reading, self.name_the_leader(store.follow()));
                // This one takes over.
                std::future::pending::<()>().await;
            };
            let won = tokio::select! {
                won = store.lead() => won,
                () = self.shutdown.cancelled() => return Ok(None),
                () = following => continue,
            };
            match won {
                Ok((term, stored)) => {
                    let warm = warm::taken(&warm);
                    return Ok(Some(Won { term, stored, warm }));
                }
                Err(error) if passes(&error) => self.pause(&mut backoff, &error).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps what clients are told up to date while another leads.
    async fn name_the_leader(&self, mut following: Following) {
        loop {
            // Its own address would send clients in a circle.
            let leader = following.leader();
            let leader = leader.filter(|leader| leader.identity != self.advertised);
            self.follow(leader.map(|leader| Leading {
                address: leader.identity,
                term: leader.term.0,
            }));
            if !following.changed().await {
                return;
            }
        }
    }

    fn follow(&self, leader: Option<Leading>) {
        self.standing.send_if_modified(|standing| {
            let changed = match &*standing {
                Standing::Leads(_) => true,
                Standing::Follows(known) => *known != leader,
            };
            if changed {
                *standing = Standing::Follows(leader);
            }
            changed
        });
    }

    /// Takes up what the last leader left; `None` where the lead was lost already.
    async fn begin(&self, store: &EtcdStore, won: Won) -> Result<Option<Reign>, CoordinatorError> {
        let since = tokio::time::Instant::now();
        let Won { term, stored, warm } = won;
        let Some(lost) = store.lost().await else {
            return Ok(None);
        };
        let clock = Clock::start();
        let records = warm.take(stored).map_err(CoordinatorError::from);
        let machine = match records.and_then(|r| machine(&self.config, term, clock, r)) {
            Ok(machine) => machine,
            Err(error) => {
                store.resign().await;
                return Err(error);
            }
        };
        let jobs = machine.jobs().len();
        let (stop, closing) = (CancellationToken::new(), CancellationToken::new());
        let any = AnyStore::Etcd(store.clone());
        let tasks = self.tasks.clone();
        let threads = self.config.search_threads();
        let begun = Driver::new(machine, any, clock, closing.clone(), tasks, threads);
        let (driver, handle) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                store.resign().await;
                return Err(error.into());
            }
        };
        let driver = tokio::spawn(driver.run(stop.clone()));
        self.standing.send_replace(Standing::Leads(handle));
        let took_ms = since.elapsed().as_millis() as u64;
        tracing::info!(%term, jobs, took_ms, "this coordinator leads");
        Ok(Some(Reign {
            term,
            driver,
            lost,
            stop,
            closing,
        }))
    }

    /// Leads until the lease is lost, the loop fails, or the shutdown.
    async fn lead(&self, store: &EtcdStore, mut reign: Reign) -> Result<Ended, CoordinatorError> {
        let (ended, mut driver) = tokio::select! {
            () = self.shutdown.cancelled() => (Ended::Shutdown, None),
            () = reign.lost.cancelled() => (Ended::Deposed, None),
            driver = &mut reign.driver => (Ended::Deposed, Some(driver)),
        };
        reign.stop.cancel();
        if matches!(ended, Ended::Shutdown) {
            // The turn under way, and what was asked before, is finished first: as long as the lease lasts.
            driver = tokio::select! {
                driver = &mut reign.driver => Some(driver),
                () = reign.lost.cancelled() => None,
            };
        }
        // From here on nobody is told anything in the name of this term. The loop may still wait for a
        // store that does not answer: nobody waits for it, nor for the lease to be given back.
        self.follow(None);
        if matches!(ended, Ended::Deposed) {
            reign.closing.cancel();
        }
        let driver = match driver {
            Some(driver) => driver,
            None => (&mut reign.driver).await,
        };
        store.resign().await;
        reign.closing.cancel();
        let driver = driver.map_err(|error| CoordinatorError::Task {
            task: "driver",
            reason: error.to_string(),
        })?;
        match driver {
            Ok(()) => {}
            Err(DriverError::Store(error)) if passes(&error) => {
                tracing::warn!(term = %reign.term, %error, "this coordinator leads no more");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(ended)
    }

    fn backoff(&self) -> Backoff {
        let key = Key::new(0).named(&self.advertised);
        Backoff::new(key, FIRST_PAUSE, LONGEST_PAUSE)
    }

    async fn pause(&self, backoff: &mut Backoff, error: &StoreError) {
        let wait = backoff.next_wait();
        tracing::warn!(%error, retry_in_ms = wait.as_millis() as u64, "etcd does not do what was asked");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// How a reign ended.
enum Ended {
    Shutdown,
    Deposed,
}

/// Whether another try, by this coordinator or another, may go well: nothing has to be mended first.
fn passes(error: &StoreError) -> bool {
    let over = matches!(
        error,
        StoreError::Deposed { .. } | StoreError::LeaseLost { .. }
    );
    over || error.is_retryable()
}
