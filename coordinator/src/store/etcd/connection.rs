//! Requests to etcd's members: which one is asked, for how long, and how often again.
//!
//! One client for each member and a pointer to the one that answered last: a member that is dead or
//! stands still costs one attempt, then everybody asks the next. A token of etcd's auth that ran out, that
//! a member lost with its memory, or that is older than etcd's users, is renewed. What a request means is
//! not known here; a write must be one that may be sent twice.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, Error};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::Code;

use super::super::StoreError;
use super::settings::EtcdSettings;

/// How long a member may take before the next one is asked. Longer than a sync of a slow disk.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// Attempts grow to this, so that members that are merely slow are not asked over and over.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(4);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// etcd takes pings more often than every five seconds for an attack.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// etcd refused it, and would again.
    Refused(String),
    /// etcd takes no writes until space is made.
    Full(String),
    /// Nobody answered in time. A write may have been applied or not.
    Unanswered(String),
}

/// Clients of all members.
pub(super) struct Connection {
    name: PathBuf,
    options: etcd_client::ConnectOptions,
    members: Vec<Member>,
    current: AtomicUsize,
    /// There is a user, so that tokens can be renewed.
    user: bool,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

struct Member {
    url: String,
    client: OnceCell<Client>,
}

impl Connection {
    /// Nothing is sent yet.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let options = settings
            .options()?
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(false)
            // A member that has lost the others says so, instead of keeping us waiting.
            .with_require_leader(true);
        Ok(Self {
            name: settings.name(),
            options,
            members: settings
                .endpoints
                .iter()
                .map(|url| Member {
                    url: url.clone(),
                    client: OnceCell::new(),
                })
                .collect(),
            current: AtomicUsize::new(0),
            user: settings.user.is_some(),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// What errors call this store.
    pub(super) fn name(&self) -> PathBuf {
        self.name.clone()
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Number of the member that answered last, for streams (watches).
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The client of one member, by its number.
    pub(super) async fn member(&self, number: usize) -> Result<Client, Error> {
        let member = &self.members[number % self.members.len()];
        let connect = || Client::connect([member.url.as_str()], Some(self.options.clone()));
        Ok(member.client.get_or_try_init(connect).await?.clone())
    }

    /// Asks one member after the other until `until`.
    pub(super) async fn call<T, F, R>(&self, until: Instant, request: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        let mut patience = FIRST_ATTEMPT;
        let mut last = "no time was left to ask".to_owned();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Unanswered(last));
            }
            let at = self.current();
            let attempt = async {
                let client = self.member(at).await?;
                match request(client.clone()).await {
                    Err(error) if self.user && is_of_token(&error) => {
                        tracing::info!(%error, "etcd's token is renewed");
                        let again = async {
                            client.refresh_token().await?;
                            request(client).await
                        };
                        Box::pin(again).await
                    }
                    answer => answer,
                }
            };
            match tokio::time::timeout(patience.min(left), attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => match last_word(&error) {
                    // Lost again in between.
                    Some(_) if self.user && is_of_token(&error) => last = error.to_string(),
                    Some(failure) => return Err(failure),
                    None => last = error.to_string(),
                },
                Err(_) => {
                    last = format!("no answer within {} ms", patience.as_millis());
                    patience = (patience * 2).min(LONGEST_ATTEMPT);
                }
            }
            self.rotate_from(at);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Renews a member's token, for a stream that was refused.
    pub(super) async fn renew(&self, number: usize) {
        if !self.user {
            return;
        }
        let renewed = async { self.member(number).await?.refresh_token().await };
        let renewed = tokio::time::timeout(LONGEST_ATTEMPT, renewed).await;
        if let Ok(Err(error)) = renewed {
            tracing::warn!(%error, "etcd's token could not be renewed");
        }
    }

    /// From now on the next member is asked first: `at` had no answer.
    pub(super) fn rotate_from(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        // Lost where another caller has moved on already.
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn error(&self, failure: Failure) -> StoreError {
        let path = self.name();
        match failure {
            Failure::Refused(reason) => StoreError::Refused { path, reason },
            Failure::Full(reason) => StoreError::QuotaExceeded { path, reason },
            Failure::Unanswered(reason) => StoreError::Io { path, reason },
        }
    }
}

/// Whether a request was refused for its token, and not for what it asked.
fn is_of_token(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            status.code() == Code::Unauthenticated || names_token(status.message())
        }
        _ => false,
    }
}

/// Whether etcd names the token as its reason: it ran out or is not known (after a restart of the member), it
/// is missing, or etcd's users have changed since it was made.
pub(super) fn names_token(reason: &str) -> bool {
    const WORDS: [&str; 3] = [
        "invalid auth token",
        "user name is empty",
        "revision of auth store is old",
    ];
    WORDS.iter().any(|words| reason.contains(words))
}

/// The failure, where asking again cannot help.
fn last_word(error: &Error) -> Option<Failure> {
    let text = error.to_string();
    match error {
        Error::GRpcStatus(status) => match status.code() {
            Code::ResourceExhausted if status.message().contains("space exceeded") => {
                Some(Failure::Full(text))
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::FailedPrecondition => Some(Failure::Refused(text)),
            _ => None,
        },
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            Some(Failure::Refused(text))
        }
        _ => None,
    }
}
