//! The connection behind a client: which coordinator is asked, and when another is tried.
//!
//! Clones of a client share one link. It holds at most one connection, to the coordinator that leads
//! as far as is known; every failure moves the search on.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code as Grpc, Status};
use trainyard_common::backoff::Backoff;
use trainyard_common::leader::{LeaderSearch, Next};
use trainyard_common::rng::Key;
use trainyard_proto::v1::job_service_client::JobServiceClient;
use trainyard_proto::{LEADER_METADATA, MAX_MESSAGE_BYTES};
use uuid::Uuid;

use super::{DEFAULT_COORDINATOR, greet};
use crate::exit::{Failure, Outcome};

/// How long a connection may take with one address, and with several, where the next one waits; the first also the
/// first answer, which a coordinator that does anything gives at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);
/// For one answer, or the beginning of a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent connection is asked for a sign of life this often, and dropped without one for as long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a coordinator that was lost, or one that leads, is looked for. One that restarts is back by
/// then; so is a new leader, with a lease of up to ten seconds.
pub(super) const GIVE_UP: Duration = Duration::from_secs(30);
/// Wait after a round over all addresses: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The most addresses that are accepted: more than anybody runs coordinators.
const MAX_ADDRESSES: usize = 32;

/// Names one state of the link, so that of several callers that meet the same failure one moves on.
pub(super) type Turn = u64;

#[derive(Debug)]
pub(super) struct Link {
    /// As they were given.
    addresses: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    search: LeaderSearch,
    service: Option<JobServiceClient<Channel>>,
    turn: Turn,
}

impl Link {
    /// Connects to the first address that accepts.
    pub(super) async fn connect(addresses: &str) -> Outcome<Self> {
        let known = parse(addresses)?;
        let link = Self {
            addresses: known.join(","),
            state: Mutex::new(State {
                search: LeaderSearch::new(known),
                service: None,
                turn: 0,
            }),
        };
        loop {
            let (turn, opened) = link.service().await;
            let Err(status) = opened else {
                return Ok(link);
            };
            if link.failed(turn, &status).await == Next::AfterPause {
                return Err(link.nobody_listens(&status).await);
            }
        }
    }

    pub(super) fn addresses(&self) -> &str {
        &self.addresses
    }

    /// The service at the present address, connecting where that is needed, and the present turn.
    pub(super) async fn service(&self) -> (Turn, Result<JobServiceClient<Channel>, Status>) {
        let mut state = self.state.lock().await;
        if let Some(service) = &state.service {
            return (state.turn, Ok(service.clone()));
        }
        let several = state.search.known().len() > 1;
        let opened = open(state.search.current(), several, Some(ANSWER_TIMEOUT)).await;
        if let Ok(service) = &opened {
            state.service = Some(service.clone());
        }
        (state.turn, opened)
    }

    /// A connection of its own to the present address, for one answer that may take long.
    pub(super) async fn transfer(&self) -> (Turn, Result<JobServiceClient<Channel>, Status>) {
        let (address, several, turn) = {
            let state = self.state.lock().await;
            let several = state.search.known().len() > 1;
            (state.search.current().to_owned(), several, state.turn)
        };
        (turn, open(&address, several, None).await)
    }

    /// The address of this turn has answered as a leader does.
    pub(super) async fn succeeded(&self, turn: Turn) {
        let mut state = self.state.lock().await;
        if state.turn == turn {
            state.search.succeeded();
        }
    }

    /// The address of this turn does not do: the next one is tried.
    pub(super) async fn failed(&self, turn: Turn, status: &Status) -> Next {
        let mut state = self.state.lock().await;
        if state.turn != turn {
            return Next::AtOnce;
        }
        state.turn += 1;
        state.service = None;
        let leader = status.metadata().get(LEADER_METADATA);
        let leader = leader.and_then(|leader| leader.to_str().ok());
        let leader = leader.map(normalize);
        state.search.failed(&said(status), leader.as_deref())
    }

    /// The present turn, for a stream that was opened by a question just now.
    pub(super) async fn turn(&self) -> Turn {
        self.state.lock().await.turn
    }

    async fn nobody_listens(&self, status: &Status) -> Failure {
        let state = self.state.lock().await;
        let reasons = if state.search.known().len() > 1 {
            state.search.report()
        } else {
            status.message().to_owned()
        };
        Failure::unreachable(format!(
            "no coordinator at {} ({reasons}); name another with --coordinator or \
             TRAINYARD_COORDINATOR, or look into what `run` left with --data-dir ./trainyard-data",
            self.addresses
        ))
    }

    /// What a person is told when nothing more is tried.
    async fn failure(&self, status: &Status) -> Failure {
        let state = self.state.lock().await;
        if lost(status) && state.search.known().len() > 1 {
            return Failure::unreachable(format!(
                "no coordinator that leads answered within {} s; what each said last: {}",
                GIVE_UP.as_secs(),
                state.search.report()
            ));
        }
        Failure::from_status(status, &self.addresses)
    }
}

/// Decides whether and when a failed call is tried again.
#[derive(Debug)]
pub(super) struct Retry {
    /// When the trouble, or the call, began.
    since: Option<Instant>,
    backoff: Backoff,
}

impl Retry {
    /// Of a call that begins now: all tries of it together end in time.
    pub(super) fn from_now() -> Self {
        Self {
            since: Some(Instant::now()),
            ..Self::from_first_failure()
        }
    }

    /// Of a stream, which may be quiet for long before it breaks.
    pub(super) fn from_first_failure() -> Self {
        let key = Key::new(Uuid::new_v4().as_u64_pair().0);
        Self {
            since: None,
            backoff: Backoff::new(key, FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// It goes on: what comes is new trouble.
    pub(super) fn reset(&mut self) {
        self.since = None;
        self.backoff.reset();
    }

    /// Waits until the next try; the failure where there is none.
    pub(super) async fn again(&mut self, link: &Link, turn: Turn, status: Status) -> Outcome {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !lost(&status) {
            return Err(link.failure(&status).await);
        }
        let next = link.failed(turn, &status).await;
        let left = GIVE_UP.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(link.failure(&status).await);
        }
        if next == Next::AfterPause {
            tokio::time::sleep(self.backoff.next_wait().min(left)).await;
        }
        Ok(())
    }
}

/// Whether it was the connection or the coordinator that failed, not the request.
fn lost(status: &Status) -> bool {
    // Unknown is what a connection that breaks in mid-answer looks like, Cancelled and
    // DeadlineExceeded a coordinator that stands still.
    matches!(
        status.code(),
        Grpc::Unavailable | Grpc::Unknown | Grpc::Cancelled | Grpc::DeadlineExceeded
    )
}

fn said(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    }
}

/// Addresses separated by commas, each with a scheme.
fn parse(addresses: &str) -> Outcome<Vec<String>> {
    let parts: Vec<&str> = addresses.split(',').collect();
    if parts.len() > MAX_ADDRESSES {
        return Err(Failure::usage(format!(
            "--coordinator: {} addresses given; expected at most {MAX_ADDRESSES}",
            parts.len()
        )));
    }
    if parts.len() > 1 && parts.iter().any(|part| part.trim().is_empty()) {
        return Err(Failure::usage(format!(
            "--coordinator: `{addresses}` has an empty address; expected HOST:PORT,HOST:PORT"
        )));
    }
    let known: Vec<String> = parts.into_iter().map(normalize).collect();
    for address in &known {
        endpoint(address)?;
    }
    Ok(known)
}

/// A coordinator's address as written, or its default, with a scheme.
fn normalize(address: &str) -> String {
    let address = address.trim();
    if address.is_empty() {
        DEFAULT_COORDINATOR.to_owned()
    } else if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    }
}

fn endpoint(address: &str) -> Outcome<Endpoint> {
    Endpoint::from_shared(address.to_owned())
        .ok()
        .filter(|endpoint| {
            let uri = endpoint.uri();
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        })
        .ok_or_else(|| {
            Failure::usage(format!(
                "--coordinator: `{address}` is no address; expected http://HOST:PORT or HOST:PORT, \
                 several separated by commas"
            ))
        })
}

/// `answer`: how long each answer may take; a connection that is lost is noticed in any case.
async fn open(
    address: &str,
    several: bool,
    answer: Option<Duration>,
) -> Result<JobServiceClient<Channel>, Status> {
    let limit = if several {
        CONNECT_TIMEOUT_OF_SEVERAL
    } else {
        CONNECT_TIMEOUT
    };
    let endpoint = endpoint(address).map_err(|failure| Status::unavailable(failure.to_string()))?;
    let endpoint = match answer {
        Some(answer) => endpoint.timeout(answer),
        None => endpoint,
    };
    let endpoint = endpoint
        .connect_timeout(limit)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    // The endpoint's own limit does not cover a peer that accepts and then says nothing.
    let service = match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => JobServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
        Ok(Err(error)) => return Err(Status::unavailable(greet::root_cause(&error))),
        Err(_) => return Err(greet::silent(limit)),
    };
    greet::greet(&service, CONNECT_TIMEOUT).await?;
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    #[test]
    fn addresses_may_lack_a_scheme() {
        assert_eq!(normalize("10.0.0.1:7070"), "http://10.0.0.1:7070");
        assert_eq!(normalize("http://h:1"), "http://h:1");
        assert_eq!(normalize(" "), DEFAULT_COORDINATOR);
        let several = parse("a:1, http://b:2").unwrap();
        assert_eq!(several, ["http://a:1", "http://b:2"]);
        for bad in ["a:1,,b:2", "a:1,ftp://b:2", &"a:1,".repeat(40)] {
            let failure = parse(bad).unwrap_err();
            assert_eq!(failure.code, Code::Usage, "{bad}");
            assert!(failure.message.starts_with("--coordinator"), "{failure}");
        }
    }

    /// Addresses that were free a moment ago: nobody listens there.
    fn free(count: usize) -> Vec<String> {
        let bound = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let bound: Vec<_> = bound.collect();
        let addresses = bound.iter().map(|l| l.local_addr().unwrap().to_string());
        addresses.collect()
    }

    #[tokio::test]
    async fn wrong_addresses_are_told_at_once_and_all_named() {
        for count in [1, 3] {
            let addresses = free(count);
            let failure = Link::connect(&addresses.join(",")).await.unwrap_err();
            assert_eq!(failure.code, Code::Unreachable);
            for address in &addresses {
                assert!(failure.message.contains(address), "{failure}");
            }
            assert!(failure.message.contains("refused"), "{failure}");
        }
        for bad in ["http://", "ftp://h:1", "not an address"] {
            let failure = Link::connect(bad).await.unwrap_err();
            assert_eq!(failure.code, Code::Usage, "{bad}");
        }
    }

    #[test]
    fn only_lost_connections_are_tried_again() {
        for status in [
            Status::unavailable("gone"),
            Status::unknown("transport error"),
            Status::cancelled("Timeout expired"),
        ] {
            assert!(lost(&status), "{status:?}");
        }
        for status in [Status::invalid_argument("no"), Status::not_found("no")] {
            assert!(!lost(&status), "{status:?}");
        }
    }

    #[tokio::test]
    async fn tries_end_in_time_and_every_address_is_told() {
        let known = ["http://a:1".to_owned(), "http://b:2".to_owned()];
        let link = Link {
            addresses: known.join(","),
            state: Mutex::new(State {
                search: LeaderSearch::new(known),
                service: None,
                turn: 0,
            }),
        };
        // As after most of the time has passed.
        let mut retry = Retry::from_first_failure();
        retry.since = Instant::now().checked_sub(GIVE_UP - FIRST_PAUSE);
        let mut rounds = 0;
        let failure = loop {
            let status = Status::unavailable("this coordinator does not lead");
            let turn = link.turn().await;
            match retry.again(&link, turn, status).await {
                Ok(()) => rounds += 1,
                Err(failure) => break failure,
            }
        };
        assert!(rounds >= 2, "both were asked again: {rounds}");
        assert_eq!(failure.code, Code::Unreachable);
        for address in ["a:1: this coordinator", "b:2: this coordinator"] {
            assert!(failure.message.contains(address), "{failure}");
        }
    }
}
