//! Who is served, and how much of something each may hold at one time: connections, calls, watchers, bytes.
//!
//! A client is an address, since that is all that is known of one before it says anything. Each has a share
//! of every limit, so that one alone cannot take everything. Knows nothing of what is counted.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One client: an IPv4 address, or the /64 network of an IPv6 address, which is what a single host is given
/// and may choose addresses in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(IpAddr);

impl Client {
    pub(crate) fn of(address: IpAddr) -> Self {
        let IpAddr::V6(address) = address.to_canonical() else {
            return Self(address.to_canonical());
        };
        // The lower half of the bits is the host's own choice; loopback has none.
        let network = u128::from(address) & !u128::from(u64::MAX);
        match address.is_loopback() {
            true => Self(IpAddr::V6(address)),
            false => Self(IpAddr::V6(Ipv6Addr::from(network))),
        }
    }

    /// Of a connection; whoever has no address shares one.
    pub(crate) fn at(address: Option<SocketAddr>) -> Self {
        Self::of(address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |known| known.ip()))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why there is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("all {most} are in use")]
    Total { most: usize },
    #[error("this client has all {most} that one may have")]
    Client { most: usize },
}

/// How many there are, and of each client.
#[derive(Debug)]
pub(crate) struct Tally {
    total: usize,
    each: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    of: HashMap<Client, usize>,
}

impl Tally {
    pub(crate) fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            each,
            counts: Mutex::default(),
        })
    }

    /// One more for this client, until what is handed out is dropped.
    pub(crate) fn enter(self: &Arc<Self>, client: Client) -> Result<Held, Full> {
        self.take(client, 1)
    }

    /// So many more at once, or none of them.
    pub(crate) fn take(self: &Arc<Self>, client: Client, many: usize) -> Result<Held, Full> {
        let mut counts = self.counts();
        let own = counts.of.get(&client).copied().unwrap_or(0);
        let (own, total) = (own.saturating_add(many), counts.total.saturating_add(many));
        if own > self.each {
            return Err(Full::Client { most: self.each });
        }
        if total > self.total {
            return Err(Full::Total { most: self.total });
        }
        counts.total = total;
        counts.of.insert(client, own);
        Ok(Held {
            tally: Arc::clone(self),
            client,
            many,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing below panics halfway through a change, so a poisoned lock holds a whole value.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One or some of what is counted.
#[derive(Debug)]
pub(crate) struct Held {
    tally: Arc<Tally>,
    client: Client,
    many: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.tally.counts();
        counts.total -= self.many;
        if let Some(own) = counts.of.get_mut(&self.client) {
            *own -= self.many;
            if *own == 0 {
                counts.of.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_host_are_one_client() {
        let one = client("10.0.0.1");
        assert_eq!(one, client("::ffff:10.0.0.1"));
        assert_ne!(one, client("10.0.0.2"));
        let network = client("2001:db8:1:2::1");
        assert_eq!(network, client("2001:db8:1:2:ffff:1:2:3"));
        assert_ne!(network, client("2001:db8:1:3::1"));
        assert_ne!(client("::1"), Client::at(None));
    }

    #[test]
    fn each_has_a_share_and_gives_it_back() {
        let tally = Tally::new(3, 2);
        let (a, b) = (client("10.0.0.1"), client("10.0.0.2"));
        let held = [tally.enter(a).unwrap(), tally.enter(a).unwrap()];
        assert_eq!(tally.enter(a).unwrap_err(), Full::Client { most: 2 });
        let other = tally.enter(b).unwrap();
        assert_eq!(tally.enter(b).unwrap_err(), Full::Total { most: 3 });
        drop(held);
        let again = [tally.enter(b).unwrap(), tally.enter(a).unwrap()];
        drop((again, other));
        assert_eq!(tally.take(a, 3).unwrap_err(), Full::Client { most: 2 });
        let two = tally.take(a, 2).unwrap();
        assert_eq!(tally.take(b, 2).unwrap_err(), Full::Total { most: 3 });
        assert!(tally.take(a, usize::MAX).is_err());
        drop(two);
        let counts = tally.counts();
        assert_eq!((counts.total, counts.of.len()), (0, 0));
    }
}
