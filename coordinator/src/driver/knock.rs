//! Knocking at a worker's host: whether it accepts a connection or actively refuses one.
//!
//! Nowhere but where the worker speaks from: a name is looked up, and what it has beside that address is
//! left alone. Whoever registers with the address of another would otherwise learn from the coordinator
//! which of that one's ports are open.
//!
//! Only a refusal is an answer from the host itself. Silence, a timeout, an unreachable network or a name
//! without an address say nothing of the process.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::WorkerId;

use super::Input;
use super::input::WeakInputs;
use crate::cluster::api::Event;
use crate::cluster::model::SessionId;

/// Connections under way at one time; further ones wait for their turn.
const MAX_KNOCKS: usize = 64;

/// How long a connection may take: a host that is there answers within a round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Tries while a host still accepts, and the pause between them: a process that is killed closes its
/// sockets one by one.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug)]
pub(super) struct Knock {
    pub(super) worker: WorkerId,
    pub(super) session: SessionId,
    pub(super) address: String,
    /// The address from which the worker speaks.
    pub(super) peer: IpAddr,
    pub(super) until_refused: bool,
}

/// Knocks beside the loop.
#[derive(Debug)]
pub(super) struct Knocker {
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Knocker {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_KNOCKS)),
            tasks,
        }
    }

    /// The answer, if there is one, comes to `inputs` as `Event::Knocked`.
    pub(super) fn start(&self, knock: Knock, inputs: WeakInputs) {
        let permits = Arc::clone(&self.permits);
        self.tasks.spawn(async move {
            let Ok(_permit) = permits.acquire_owned().await else {
                return;
            };
            let tries = if knock.until_refused { TRIES } else { 1 };
            let Some(place) = resolved(&knock.address, knock.peer).await else {
                return;
            };
            let Some(refused) = answer(place, tries).await else {
                return;
            };
            let event = Event::Knocked {
                worker: knock.worker,
                session: knock.session,
                refused,
            };
            if let Some(inputs) = inputs.upgrade() {
                // Refused only when the loop has ended, and then nobody needs the answer.
                let _ = inputs.send(Input::own(event)).await;
            }
        });
    }
}

/// Where to knock; `None`: the address is not the peer's, or has no meaning here.
async fn resolved(address: &str, peer: IpAddr) -> Option<SocketAddr> {
    let found = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(address)).await;
    let peer = peer.to_canonical();
    let mut found = found.ok()?.ok()?;
    let named = found.find(|found| found.ip().to_canonical() == peer)?;
    Some(SocketAddr::new(peer, named.port()))
}

/// Whether the host refuses; `None`: it did not answer.
async fn answer(address: SocketAddr, tries: u32) -> Option<bool> {
    let mut accepted = None;
    for number in 0..tries {
        if number > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => accepted = Some(false),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Some(true),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_told_from_an_accepted_connection_and_from_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(answer(address, 1).await, Some(false));
        drop(listener);
        assert_eq!(answer(address, 2).await, Some(true));
    }

    #[tokio::test]
    async fn only_where_the_worker_speaks_from_is_knocked() {
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let here: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (address, peer, expected) in [
            ("127.0.0.1:9", peer, Some(here)),
            ("127.0.0.1:9", mapped, Some(here)),
            ("[::ffff:127.0.0.1]:9", peer, Some(here)),
            ("localhost:9", peer, Some(here)),
            ("127.0.0.2:9", peer, None),
            ("localhost:9", "127.0.0.2".parse().unwrap(), None),
            ("192.0.2.7:9", peer, None),
            ("no-such-host.invalid:9", peer, None),
            ("no address", peer, None),
        ] {
            assert_eq!(resolved(address, peer).await, expected, "{address} {peer}");
        }
    }
}
