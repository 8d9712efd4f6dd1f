//! Bytes that change between two ranks: through a proxy which flips one bit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::partition::{self, Shape};
use super::tests::{bits, membership, on_all, rendezvous};
use super::tree::tests::filled;
use super::wire::HEADER_BYTES;
use super::*;

/// One bit of what flows between two ranks, after their handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flip {
    /// The rank that gets it.
    pub(crate) to: usize,
    pub(crate) byte: usize,
    pub(crate) bit: u32,
}

/// Two ranks, the second of which reaches the first through a proxy.
pub(crate) fn mesh_through(flip: Flip) -> Vec<TcpGroup> {
    let points = [rendezvous(), rendezvous()];
    let [zero, one] = points.each_ref().map(Rendezvous::local_addr);
    let detour = proxy(zero, flip);
    let addresses = [
        [zero, one].map(|address| address.to_string()),
        [detour, one].map(|address| address.to_string()),
    ];
    thread::scope(|scope| {
        let joins: Vec<_> = (0..2)
            .map(|rank| {
                let (point, membership) = (&points[rank], membership(rank, &addresses[rank]));
                let (timeouts, cancel) = (Timeouts::default(), Cancel::new());
                scope.spawn(move || point.join(&membership, timeouts, &cancel).unwrap())
            })
            .collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    })
}

/// Carries one connection to `target`.
fn proxy(target: SocketAddr, flip: Flip) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (one, _) = listener.accept().unwrap();
        let zero = TcpStream::connect(target).unwrap();
        let (from_zero, to_one) = (zero.try_clone().unwrap(), one.try_clone().unwrap());
        thread::spawn(move || carry(from_zero, to_one, (flip.to == 1).then_some(flip)));
        carry(one, zero, (flip.to == 0).then_some(flip));
    });
    address
}

/// One direction, until it ends.
fn carry(mut from: TcpStream, mut to: TcpStream, flip: Option<Flip>) {
    let mut head = [0; 8];
    from.read_exact(&mut head).unwrap();
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body).unwrap();
    to.write_all(&[&head[..], &body].concat()).unwrap();
    let mut seen = 0;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(Flip { byte, bit, .. }) = flip
            && let Some(place) = byte.checked_sub(seen)
            && place < count
        {
            buffer[place] ^= 1 << bit;
        }
        seen += count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The end goes through as well; an error means that the other side has gone already.
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_bit_that_flips_on_the_way_is_an_error_that_is_tried_again_and_never_a_sum() {
    let shape = Shape {
        leaves: 2,
        values: 7,
        scalars: 1,
    };
    let whole = bits(&filled(3, shape, 0..2));
    let frame = HEADER_BYTES + partition::partial_bytes(shape, 2, 0, 1);
    for to in [0, 1] {
        // The first frame whole, and the header of the second.
        for byte in 0..frame + HEADER_BYTES {
            let bit = (byte % 8) as u32;
            let results = on_all(mesh_through(Flip { to, byte, bit }), |mut group| {
                let own = partition::owned_leaves(shape.leaves, 2, group.rank());
                let mut sums = filled(3, shape, own);
                group.tree_sum(&mut sums).map(|()| bits(&sums))
            });
            let case = format!("byte {byte} to rank {to}");
            let error = results[to].as_ref().unwrap_err();
            let from = 1 - to;
            assert!(
                matches!(error, CollectiveError::Damaged { rank, .. } if *rank == from),
                "{case}: {error}"
            );
            assert!(error.is_loss() && error.can_retry(), "{case}");
            match &results[from] {
                // It had all that it needed before the other one left.
                Ok(sums) => assert_eq!(*sums, whole, "{case}"),
                Err(error) => assert!(error.can_retry(), "{case}: {error}"),
            }
        }
    }
}
