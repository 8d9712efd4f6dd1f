//! Brings the ranks of an attempt together: one listener for all attempts of a worker process.
//!
//! Rank i connects to every rank below it and accepts every rank above it. A connection waits here
//! until its attempt asks for it, so it does not matter who is ready first. The token keeps out
//! whoever the coordinator did not put into the attempt; it is not encryption.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};

use super::wire::{self, Hello, PROTOCOL, Patience, Reply};
use super::{Cancel, CollectiveError, TcpGroup, Timeouts};

/// Handshakes that are read at once; more are dropped with a warning.
const MAX_HANDSHAKES: usize = 256;
/// Connections that wait for their attempt; more are dropped with a warning.
const MAX_WAITING: usize = 4096;
/// A connecting rank must say who it is within this time.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// A connection whose attempt has not asked for it in this time is dropped.
const WAITING_LIMIT: Duration = Duration::from_secs(300);
/// So many times in the limit the connections that wait are looked through.
const LOOKS: u32 = 10;
/// One try at connecting.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries: from this, doubled up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// How often a wait looks at its cancel switch.
const POLL: Duration = Duration::from_millis(20);

/// Who takes part in an attempt, and which of them this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub job: JobId,
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub generation: Generation,
    pub rank: usize,
    /// `host:port` of every rank's rendezvous, in order; as many as the world is large.
    pub addresses: Vec<String>,
    /// The attempt's shared secret.
    pub token: String,
    /// Of this rank, see [`super::cpu_kind`].
    pub cpu_kind: String,
}

impl Membership {
    fn hello(&self, to: usize) -> Hello {
        Hello {
            to,
            protocol: PROTOCOL,
            job: self.job.0.clone(),
            trial: self.trial.0,
            attempt: self.attempt.0,
            generation: self.generation.0,
            rank: self.rank,
            world_size: self.addresses.len(),
            token: self.token.clone(),
            cpu_kind: self.cpu_kind.clone(),
        }
    }
}

/// (job, trial, attempt, generation, called rank)
type Key = (String, u32, u32, u64, usize);

fn key(hello: &Hello) -> Key {
    (
        hello.job.clone(),
        hello.trial,
        hello.attempt,
        hello.generation,
        hello.to,
    )
}

/// Accepts ranks for all attempts of this process. Dropping it stops accepting; groups live on.
#[derive(Debug)]
pub struct Rendezvous {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    pruner: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<HashMap<Key, Vec<Arrival>>>,
    /// How long a connection may wait.
    limit: Duration,
    /// Something came, or it is over.
    arrived: Condvar,
    handshakes: AtomicUsize,
    closed: AtomicBool,
}

/// A rank that connected and said who it is.
#[derive(Debug)]
struct Arrival {
    hello: Hello,
    stream: TcpStream,
    at: Instant,
}

impl Rendezvous {
    /// Starts accepting on a thread.
    pub fn start(listener: TcpListener) -> Result<Self, CollectiveError> {
        Self::start_with(listener, WAITING_LIMIT)
    }

    /// As [`Self::start`], with another limit for connections that nobody asks for.
    pub(super) fn start_with(
        listener: TcpListener,
        limit: Duration,
    ) -> Result<Self, CollectiveError> {
        let io = |action| move |source| CollectiveError::Io { action, source };
        listener
            .set_nonblocking(false)
            .map_err(io("make the collective listener blocking"))?;
        let address = listener
            .local_addr()
            .map_err(io("read the collective listener's address"))?;
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            limit,
            arrived: Condvar::new(),
            handshakes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let mut started = Self {
            address,
            shared: Arc::clone(&shared),
            acceptor: None,
            pruner: None,
        };
        let accepting = Arc::clone(&shared);
        let acceptor = thread("rendezvous").spawn(move || accepting.accept(&listener));
        started.acceptor = Some(acceptor.map_err(io("start the rendezvous thread"))?);
        let pruner = thread("rendezvous-prune").spawn(move || shared.prune_in_time());
        started.pruner = Some(pruner.map_err(io("start the rendezvous thread"))?);
        Ok(started)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all ranks of an attempt are connected with each other.
    ///
    /// # Errors
    /// `Rendezvous` after `timeouts.handshake`, `MixedCpu`, `Refused`, `Cancelled`, `Membership`.
    pub fn join(
        &self,
        membership: &Membership,
        timeouts: Timeouts,
        cancel: &Cancel,
    ) -> Result<TcpGroup, CollectiveError> {
        let world_size = membership.addresses.len();
        if membership.rank >= world_size {
            return Err(CollectiveError::Membership {
                reason: format!("rank {} of {world_size} ranks", membership.rank),
            });
        }
        let joining = Joining {
            membership,
            timeouts,
            patience: Patience {
                until: Instant::now() + timeouts.handshake,
                cancel: Some(cancel),
            },
        };
        let mut streams: Vec<Option<TcpStream>> = (0..world_size).map(|_| None).collect();
        for (rank, stream) in streams.iter_mut().enumerate().take(membership.rank) {
            *stream = Some(joining.connect(rank)?);
        }
        joining.accept(&self.shared, &mut streams)?;
        let group = TcpGroup::start(membership.rank, streams, timeouts, cancel.clone())?;
        Ok(group.at(&membership.addresses))
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // With the lock, so that the pruner sees it or waits already.
        let waiting = self.shared.waiting();
        self.shared.closed.store(true, Ordering::SeqCst);
        drop(waiting);
        self.shared.arrived.notify_all();
        if let Some(pruner) = self.pruner.take()
            && pruner.join().is_err()
        {
            tracing::warn!("the thread that drops stale connections had panicked");
        }
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            wake.set_ip(match wake {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        // The connection only wakes the acceptor, which then sees that it is over.
        let woken = TcpStream::connect_timeout(&wake, CONNECT_PATIENCE).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
            && acceptor.join().is_err()
        {
            tracing::warn!("the rendezvous thread had panicked");
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((stream, from)) => self.greet(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a rank's connection");
                    std::thread::sleep(LAST_PAUSE);
                }
            }
        }
    }

    /// Reads a hello on a thread of its own, so that a silent stranger holds up nobody.
    fn greet(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        if self.handshakes.fetch_add(1, Ordering::SeqCst) >= MAX_HANDSHAKES {
            self.handshakes.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%from, "dropped a connection: {MAX_HANDSHAKES} handshakes are under way");
            return;
        }
        let shared = Arc::clone(self);
        let greeter = std::thread::Builder::new()
            .name("rendezvous-hello".to_owned())
            .spawn(move || {
                shared.read_hello(stream, from);
                shared.handshakes.fetch_sub(1, Ordering::SeqCst);
            });
        if let Err(error) = greeter {
            self.handshakes.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%from, %error, "dropped a connection: cannot start a thread");
        }
    }

    fn read_hello(&self, stream: TcpStream, from: SocketAddr) {
        let patience = Patience {
            until: Instant::now() + HELLO_PATIENCE,
            cancel: None,
        };
        let hello: Hello = match wire::receive_handshake(&stream, &patience) {
            Ok(hello) => hello,
            // The coordinator asks so whether this host still accepts connections, as probes do.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                tracing::debug!(%from, "a connection to the collective port said nothing");
                return;
            }
            Err(error) => {
                tracing::warn!(%from, %error, "dropped a stranger on the collective port");
                return;
            }
        };
        if hello.protocol != PROTOCOL {
            let reason = format!(
                "its protocol version is {}, this worker's is {PROTOCOL}",
                hello.protocol
            );
            tracing::warn!(%from, reason, "refused a rank");
            refuse(&stream, reason);
            return;
        }
        let mut waiting = self.waiting();
        prune(&mut waiting, self.limit);
        if waiting.values().map(Vec::len).sum::<usize>() >= MAX_WAITING {
            tracing::warn!(%from, "dropped a rank: {MAX_WAITING} connections wait already");
            return;
        }
        let arrival = Arrival {
            stream,
            at: Instant::now(),
            hello,
        };
        waiting
            .entry(key(&arrival.hello))
            .or_default()
            .push(arrival);
        drop(waiting);
        self.arrived.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Vec<Arrival>>> {
        // The map is whole after every statement, so a panic elsewhere left nothing half-done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops stale connections until it is over, also while nobody comes: each holds a descriptor here,
    /// and keeps a rank elsewhere waiting.
    fn prune_in_time(&self) {
        let mut waiting = self.waiting();
        while !self.closed.load(Ordering::SeqCst) {
            prune(&mut waiting, self.limit);
            waiting = if waiting.is_empty() {
                let woken = self.arrived.wait(waiting);
                woken.unwrap_or_else(PoisonError::into_inner)
            } else {
                let woken = self.arrived.wait_timeout(waiting, self.limit / LOOKS);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Connections of one attempt, waiting a moment for them if there are none.
    fn take(&self, key: &Key) -> Vec<Arrival> {
        let waiting = self.waiting();
        let (mut waiting, _) = self
            .arrived
            .wait_timeout_while(waiting, POLL, |waiting| !waiting.contains_key(key))
            .unwrap_or_else(PoisonError::into_inner);
        waiting.remove(key).unwrap_or_default()
    }
}

/// Drops connections that nobody has asked for in a long time: their attempt is over.
fn prune(waiting: &mut HashMap<Key, Vec<Arrival>>, limit: Duration) {
    waiting.retain(|_, arrivals| {
        arrivals.retain(|arrival| arrival.at.elapsed() < limit);
        !arrivals.is_empty()
    });
}

fn refuse(stream: &TcpStream, reason: String) {
    if let Err(error) = wire::send_handshake(stream, &Reply::Refused { reason }) {
        tracing::debug!(%error, "a refused rank had gone");
    }
}

/// One rank on its way into its group.
struct Joining<'a> {
    membership: &'a Membership,
    timeouts: Timeouts,
    patience: Patience<'a>,
}

impl Joining<'_> {
    fn over(&self, missing: Vec<usize>, last: String) -> CollectiveError {
        if self.patience.is_cancelled() {
            return CollectiveError::Cancelled;
        }
        CollectiveError::Rendezvous {
            missing,
            seconds: self.timeouts.handshake.as_secs(),
            last,
        }
    }

    /// Connects to a lower rank, again and again until it is there.
    fn connect(&self, rank: usize) -> Result<TcpStream, CollectiveError> {
        let address = &self.membership.addresses[rank];
        let mut pause = FIRST_PAUSE;
        loop {
            let last = match self.try_connect(address, rank) {
                Ok((stream, Reply::Welcome)) => return Ok(stream),
                Ok((_, Reply::MixedCpu { ours })) => {
                    return Err(CollectiveError::MixedCpu {
                        rank,
                        theirs: ours,
                        ours: self.membership.cpu_kind.clone(),
                    });
                }
                Ok((_, Reply::Refused { reason })) => {
                    return Err(CollectiveError::Refused { rank, reason });
                }
                Err(error) => error.to_string(),
            };
            let again = Instant::now() + pause;
            while Instant::now() < again {
                if self.patience.is_over() {
                    return Err(self.over(vec![rank], format!("{address}: {last}")));
                }
                std::thread::sleep(pause.min(POLL));
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn try_connect(&self, address: &str, rank: usize) -> std::io::Result<(TcpStream, Reply)> {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for resolved in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&resolved, CONNECT_PATIENCE) {
                Ok(stream) => {
                    wire::send_handshake(&stream, &self.membership.hello(rank))?;
                    let reply = wire::receive_handshake(&stream, &self.patience)?;
                    return Ok((stream, reply));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes in the higher ranks as they come.
    fn accept(
        &self,
        shared: &Shared,
        streams: &mut [Option<TcpStream>],
    ) -> Result<(), CollectiveError> {
        let own = self.membership.rank;
        let key = key(&self.membership.hello(own));
        loop {
            let missing: Vec<usize> = (own + 1..streams.len())
                .filter(|&rank| streams[rank].is_none())
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if self.patience.is_over() {
                return Err(self.over(missing, "they did not connect".to_owned()));
            }
            for arrival in shared.take(&key) {
                if let Some((rank, stream)) = self.admit(arrival)? {
                    streams[rank] = Some(stream);
                }
            }
        }
    }

    /// Welcomes a rank, or drops it (`None`) if it is not one of this attempt's.
    fn admit(&self, arrival: Arrival) -> Result<Option<(usize, TcpStream)>, CollectiveError> {
        let Arrival { hello, stream, .. } = arrival;
        let (own, ours) = (self.membership.rank, &self.membership.cpu_kind);
        let world_size = self.membership.addresses.len();
        if !same_secret(&hello.token, &self.membership.token) {
            tracing::warn!(
                rank = hello.rank,
                "dropped a connection with a wrong rendezvous token"
            );
            refuse(&stream, "wrong rendezvous token".to_owned());
            return Ok(None);
        }
        if hello.world_size != world_size || hello.rank <= own || hello.rank >= world_size {
            let reason = format!(
                "it is rank {} of {}, expected {} to {} of {world_size}",
                hello.rank,
                hello.world_size,
                own + 1,
                world_size - 1
            );
            tracing::warn!(reason, "refused a rank");
            refuse(&stream, reason);
            return Ok(None);
        }
        if hello.cpu_kind != *ours {
            let reply = Reply::MixedCpu { ours: ours.clone() };
            if let Err(error) = wire::send_handshake(&stream, &reply) {
                tracing::debug!(%error, "a refused rank had gone");
            }
            return Err(CollectiveError::MixedCpu {
                rank: hello.rank,
                theirs: hello.cpu_kind,
                ours: ours.clone(),
            });
        }
        match wire::send_handshake(&stream, &Reply::Welcome) {
            Ok(()) => Ok(Some((hello.rank, stream))),
            Err(error) => {
                tracing::warn!(rank = hello.rank, %error, "a rank had gone before its welcome");
                Ok(None)
            }
        }
    }
}

/// Compares without telling by its time where the first difference is.
fn same_secret(a: &str, b: &str) -> bool {
    let difference = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |seen, (a, b)| seen | (a ^ b));
    a.len() == b.len() && difference == 0
}
