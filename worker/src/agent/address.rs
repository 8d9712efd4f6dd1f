//! Where a worker's peers reach it: what it listens on and what it tells them, unless that is set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{WorkerConfig, endpoint_of};

/// Which of this machine's addresses faces the coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Facing {
    /// They are on this machine, and so are the peers.
    Loopback,
    Address(IpAddr),
    /// Their names have no address yet, or there is no way to them.
    Unknown,
}

/// Finds the address from which this machine would speak to the coordinators. Nothing is sent.
pub(super) async fn facing(coordinators: &[String]) -> Facing {
    let mut known = None;
    for coordinator in coordinators {
        match towards(coordinator).await {
            Some(local) if local.is_loopback() => known = Some(Facing::Loopback),
            Some(local) => return Facing::Address(local),
            None => {}
        }
    }
    known.unwrap_or(Facing::Unknown)
}

async fn towards(coordinator: &str) -> Option<IpAddr> {
    let endpoint = endpoint_of(coordinator).ok()?;
    let host = endpoint.uri().host()?.trim_matches(['[', ']']);
    let port = endpoint.uri().port_u16().unwrap_or(80);
    let resolved = tokio::net::lookup_host((host, port)).await.ok()?;
    for remote in resolved {
        let any: IpAddr = unspecified_like(remote.ip());
        // Connecting a datagram socket only looks up the route.
        let Ok(socket) = std::net::UdpSocket::bind((any, 0)) else {
            continue;
        };
        if socket.connect(remote).is_ok()
            && let Ok(local) = socket.local_addr()
        {
            return Some(local.ip());
        }
    }
    None
}

fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What to listen on.
pub(super) fn to_bind(config: &WorkerConfig, facing: Facing) -> String {
    if let Some(address) = &config.collective_bind {
        return address.clone();
    }
    let host = match facing {
        Facing::Loopback => Ipv4Addr::LOCALHOST.into(),
        Facing::Address(address) => unspecified_like(address),
        Facing::Unknown => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(host, 0).to_string()
}

/// What peers are told, once it is known what is listened on.
pub(super) fn to_advertise(
    config: &WorkerConfig,
    facing: Facing,
    bound: SocketAddr,
    host_name: &str,
) -> String {
    match (&config.collective_advertise, facing) {
        (Some(address), _) => address.clone(),
        (None, _) if !bound.ip().is_unspecified() => bound.to_string(),
        (None, Facing::Address(address)) if config.collective_bind.is_none() => {
            SocketAddr::new(address, bound.port()).to_string()
        }
        (None, _) => format!("{host_name}:{}", bound.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_on_other_machines_get_an_address_that_they_reach() {
        let v4 = Facing::Address("10.1.2.3".parse().unwrap());
        let v6 = Facing::Address("fd00::7".parse().unwrap());
        // (set to bind, set to advertise, facing, bound to, advertised with port 9)
        let table = [
            (None, None, Facing::Loopback, "127.0.0.1:0", "127.0.0.1:9"),
            (None, None, v4, "0.0.0.0:0", "10.1.2.3:9"),
            (None, None, v6, "[::]:0", "[fd00::7]:9"),
            (None, None, Facing::Unknown, "0.0.0.0:0", "box:9"),
            (None, Some("nat:5"), v4, "0.0.0.0:0", "nat:5"),
            (Some("127.0.0.1:0"), None, v4, "127.0.0.1:0", "127.0.0.1:9"),
            (Some("0.0.0.0:0"), None, v4, "0.0.0.0:0", "box:9"),
            (Some("10.0.0.1:0"), Some("nat:5"), v4, "10.0.0.1:0", "nat:5"),
        ];
        for (bind, advertise, facing, bound, advertised) in table {
            let config = WorkerConfig {
                collective_bind: bind.map(str::to_owned),
                collective_advertise: advertise.map(str::to_owned),
                ..WorkerConfig::default()
            };
            let found = to_bind(&config, facing);
            assert_eq!(found, bound, "{bind:?} {advertise:?} {facing:?}");
            let mut bound: SocketAddr = found.parse().unwrap();
            bound.set_port(9);
            let found = to_advertise(&config, facing, bound, "box");
            assert_eq!(found, advertised, "{bind:?} {advertise:?} {facing:?}");
        }
    }

    #[tokio::test]
    async fn a_coordinator_on_this_machine_is_recognized() {
        for address in ["127.0.0.1:7070", "http://127.0.0.1:7070", "localhost:1"] {
            let found = facing(&[address.to_owned()]).await;
            assert_eq!(found, Facing::Loopback, "{address}");
        }
        let found = facing(&["no-such-host.invalid:1".to_owned()]).await;
        assert_eq!(found, Facing::Unknown);
    }
}
