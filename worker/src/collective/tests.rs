//! Groups over real loopback connections, one thread for each rank.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};

use super::partition::{self, Shape};
use super::tree::tests::filled;
use super::*;

/// Far above what any wait in these tests takes, far below the product's deadlines.
const SOON: Duration = Duration::from_secs(10);

pub(crate) fn rendezvous() -> Rendezvous {
    Rendezvous::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

pub(crate) fn membership(rank: usize, addresses: &[String]) -> Membership {
    Membership {
        job: JobId("digits-1".to_owned()),
        trial: TrialId(3),
        attempt: AttemptId(0),
        generation: Generation(7),
        rank,
        addresses: addresses.to_vec(),
        token: "secret".to_owned(),
        cpu_kind: cpu_kind(),
    }
}

fn addresses(points: &[Rendezvous]) -> Vec<String> {
    points
        .iter()
        .map(|point| point.local_addr().to_string())
        .collect()
}

/// One connected group for each rank.
pub(crate) fn mesh(world_size: usize) -> Vec<TcpGroup> {
    mesh_with(world_size, Timeouts::default(), &Cancel::new())
}

fn mesh_with(world_size: usize, timeouts: Timeouts, cancel: &Cancel) -> Vec<TcpGroup> {
    let points: Vec<_> = (0..world_size).map(|_| rendezvous()).collect();
    let addresses = addresses(&points);
    thread::scope(|scope| {
        let joins: Vec<_> = (0..world_size)
            .map(|rank| {
                let (point, membership) = (&points[rank], membership(rank, &addresses));
                scope.spawn(move || point.join(&membership, timeouts, cancel).unwrap())
            })
            .collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    })
}

/// Runs `work` on every rank's own thread.
pub(crate) fn on_all<T: Send>(
    groups: Vec<TcpGroup>,
    work: impl Fn(TcpGroup) -> T + Sync,
) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = groups
            .into_iter()
            .map(|group| scope.spawn(move || work(group)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

pub(crate) fn bits(sums: &TreeSum) -> (Vec<u32>, Vec<u64>) {
    let (values, scalars) = sums.root().unwrap();
    (
        values.iter().map(|value| value.to_bits()).collect(),
        scalars.iter().map(|scalar| scalar.to_bits()).collect(),
    )
}

fn expect_same_sum(groups: Vec<TcpGroup>, shape: Shape, seed: u64) -> Vec<TcpGroup> {
    let whole = bits(&filled(seed, shape, 0..shape.leaves));
    on_all(groups, |mut group| {
        let own = partition::owned_leaves(shape.leaves, group.world_size(), group.rank());
        let mut sums = filled(seed, shape, own);
        group.tree_sum(&mut sums).unwrap();
        assert_eq!(bits(&sums), whole, "{shape:?} over {}", group.world_size());
        group
    })
}

#[test]
fn sums_are_those_of_one_process_for_every_world_size() {
    for world_size in 1..=16 {
        let mut groups = mesh(world_size);
        for leaves in [1usize, 2, 4, 8, 16] {
            for values in [0, 1, world_size - 1, 257] {
                if world_size <= leaves {
                    let shape = Shape {
                        leaves,
                        values,
                        scalars: values % 4,
                    };
                    groups = expect_same_sum(groups, shape, (leaves + values) as u64);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn sums_of_any_length_are_those_of_one_process(
        level in 0u32..5, share in 0.0f64..1.0, values in 0usize..2000, scalars in 0usize..4, seed: u64,
    ) {
        let leaves = 1usize << level;
        let world_size = 1 + (share * leaves as f64) as usize;
        let shape = Shape { leaves, values, scalars };
        expect_same_sum(mesh(world_size), shape, seed);
    }
}

#[test]
fn large_messages_both_ways_do_not_block() {
    let shape = Shape {
        leaves: 4,
        values: 2_000_000,
        scalars: 1,
    };
    expect_same_sum(mesh(2), shape, 5);
}

#[test]
fn gathers_broadcasts_and_waits() {
    on_all(mesh(3), |mut group| {
        let own = vec![group.rank() as u8; group.rank()];
        let gathered = group.all_gather(&own).unwrap();
        assert_eq!(gathered, [vec![], vec![1], vec![2, 2]]);
        let mut bytes = own;
        group.broadcast(2, &mut bytes).unwrap();
        assert_eq!(bytes, [2, 2]);
        group.barrier().unwrap();
    });
}

#[test]
fn traffic_of_aligned_ranks_is_that_of_an_ordinary_all_reduce() {
    let (world_size, values) = (4, 100_000);
    let shape = Shape {
        leaves: 8,
        values,
        scalars: 5,
    };
    let groups = expect_same_sum(mesh(world_size), shape, 1);
    let ordinary = 2 * (world_size - 1) * values * size_of::<f32>() / world_size;
    for group in groups {
        let sent = group.bytes_sent() as usize;
        assert!(sent >= ordinary, "{sent} of {ordinary}");
        assert!(sent < ordinary + ordinary / 100, "{sent} of {ordinary}");
    }
}

#[test]
fn ranks_may_leave_while_others_still_finish() {
    for _ in 0..20 {
        on_all(mesh(4), |mut group| {
            group.barrier().unwrap();
            group.barrier().unwrap();
        });
    }
}

#[test]
fn a_lost_rank_is_noticed_at_once() {
    let started = Instant::now();
    // A rank that goes may take its last frames with it: not before all have read them.
    let all_are_here = std::sync::Barrier::new(3);
    let errors = on_all(mesh(3), |mut group| {
        group.barrier().unwrap();
        all_are_here.wait();
        if group.rank() == 2 {
            // What the others see of a killed process: the connection ends without a goodbye.
            group.fail();
            return None;
        }
        Some(group.barrier().unwrap_err())
    });
    assert!(started.elapsed() < SOON);
    let lost: Vec<_> = errors
        .into_iter()
        .flatten()
        .map(|error| {
            assert!(error.can_retry());
            matches!(error, CollectiveError::PeerLost { .. })
        })
        .collect();
    assert_eq!(lost, [true, true]);
}

#[test]
fn a_rank_that_left_early_is_lost() {
    let errors = on_all(mesh(2), |mut group| {
        (group.rank() == 0).then(|| group.barrier().unwrap_err())
    });
    assert!(matches!(
        errors[0],
        Some(CollectiveError::PeerLost { rank: 1, .. })
    ));
}

#[test]
fn different_operations_are_out_of_step() {
    let shape = Shape {
        leaves: 2,
        values: 10,
        scalars: 0,
    };
    let errors = on_all(mesh(2), |mut group| {
        if group.rank() == 0 {
            group.barrier().unwrap_err()
        } else {
            group.tree_sum(&mut filled(1, shape, 1..2)).unwrap_err()
        }
    });
    let out_of_step = |error: &CollectiveError| matches!(error, CollectiveError::OutOfStep { .. });
    assert!(errors.iter().any(out_of_step), "{errors:?}");
}

#[test]
fn vectors_of_different_length_are_refused() {
    let errors = on_all(mesh(2), |mut group| {
        let shape = Shape {
            leaves: 2,
            values: 10 + 2 * group.rank(),
            scalars: 0,
        };
        let own = group.rank()..group.rank() + 1;
        group.tree_sum(&mut filled(1, shape, own)).unwrap_err()
    });
    let wrong = |error: &CollectiveError| matches!(error, CollectiveError::WrongLength { .. });
    assert!(errors.iter().any(wrong), "{errors:?}");
}

#[test]
fn shards_of_others_are_refused() {
    let shape = Shape {
        leaves: 2,
        values: 1,
        scalars: 0,
    };
    let mut groups = mesh(2);
    let error = groups[0].tree_sum(&mut filled(1, shape, 0..2)).unwrap_err();
    assert!(matches!(error, CollectiveError::Membership { .. }));
    let shape = Shape { leaves: 1, ..shape };
    let error = groups[1].tree_sum(&mut filled(1, shape, 0..1)).unwrap_err();
    assert!(
        error.to_string().contains("2 ranks for 1 virtual"),
        "{error}"
    );
}

#[test]
fn cancelling_ends_a_wait() {
    let cancel = Cancel::new();
    let mut groups = mesh_with(2, Timeouts::default(), &cancel);
    let started = Instant::now();
    thread::scope(|scope| {
        let mut first = groups.remove(0);
        let waiting = scope.spawn(move || first.barrier().unwrap_err());
        cancel.cancel();
        let error = waiting.join().unwrap();
        assert!(matches!(error, CollectiveError::Cancelled));
    });
    assert!(started.elapsed() < SOON);
}

#[test]
fn silence_is_bounded() {
    // The other end keeps its connection, but nobody sends anything over it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _silent = listener.accept().unwrap();
    let timeouts = Timeouts {
        no_progress: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let streams = vec![None, Some(stream)];
    let mut group = TcpGroup::start(0, streams, timeouts, Cancel::new()).unwrap();
    let error = group.barrier().unwrap_err();
    assert!(
        matches!(error, CollectiveError::NoProgress { rank: 1, .. }),
        "{error}"
    );
    group.fail();
}

#[test]
fn a_busy_rank_is_waited_for_but_not_for_ever() {
    let timeouts = Timeouts {
        no_progress: Duration::from_secs(2),
        stall: Duration::from_millis(2500),
        ..Timeouts::default()
    };
    let mut groups = mesh_with(2, timeouts, &Cancel::new());
    // Rank 1 lives but never comes: only the longer bound ends the wait.
    let error = groups[0].barrier().unwrap_err();
    assert!(
        matches!(&error, CollectiveError::Stalled { waiting, .. } if *waiting == [1]),
        "{error}"
    );
}

#[test]
fn a_missing_rank_ends_the_rendezvous() {
    let points = [rendezvous(), rendezvous(), rendezvous()];
    let addresses = addresses(&points);
    let timeouts = Timeouts {
        handshake: Duration::from_millis(200),
        ..Timeouts::default()
    };
    let error = points[1]
        .join(&membership(1, &addresses), timeouts, &Cancel::new())
        .unwrap_err();
    assert!(
        matches!(&error, CollectiveError::Rendezvous { missing, .. } if *missing == [0]),
        "{error}"
    );
    let error = points[0]
        .join(&membership(0, &addresses[..2]), timeouts, &Cancel::new())
        .unwrap_err();
    assert!(matches!(&error, CollectiveError::Rendezvous { missing, .. } if *missing == [1]));
    let error = points[0]
        .join(&membership(3, &addresses), timeouts, &Cancel::new())
        .unwrap_err();
    assert!(matches!(error, CollectiveError::Membership { .. }));
}

#[test]
fn cancelling_ends_a_rendezvous() {
    let (point, cancel) = (rendezvous(), Cancel::new());
    let addresses = vec![point.local_addr().to_string(), "127.0.0.1:1".to_owned()];
    let started = Instant::now();
    thread::scope(|scope| {
        let join =
            scope.spawn(|| point.join(&membership(0, &addresses), Timeouts::default(), &cancel));
        cancel.cancel();
        assert!(matches!(
            join.join().unwrap(),
            Err(CollectiveError::Cancelled)
        ));
    });
    assert!(started.elapsed() < SOON);
}

#[test]
fn strangers_and_wrong_tokens_are_dropped_and_the_attempt_goes_on() {
    let points = [rendezvous(), rendezvous()];
    let addresses = addresses(&points);
    let (timeouts, cancel) = (Timeouts::default(), Cancel::new());
    let mut stranger = TcpStream::connect(&addresses[0]).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    thread::scope(|scope| {
        let zero = scope.spawn(|| points[0].join(&membership(0, &addresses), timeouts, &cancel));
        let wrong = Membership {
            token: "guessed".to_owned(),
            ..membership(1, &addresses)
        };
        let error = points[1].join(&wrong, timeouts, &cancel).unwrap_err();
        assert!(
            matches!(&error, CollectiveError::Refused { rank: 0, reason } if reason.contains("token")),
            "{error}"
        );
        let mut right = points[1]
            .join(&membership(1, &addresses), timeouts, &cancel)
            .unwrap();
        let mut zero = zero.join().unwrap().unwrap();
        let waiting = scope.spawn(move || zero.barrier());
        right.barrier().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

/// Nobody else has to come for that.
#[test]
fn a_connection_that_no_attempt_asks_for_is_closed_in_time() {
    let limit = Duration::from_millis(50);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let point = Rendezvous::start_with(listener, limit).unwrap();
    let mut late = TcpStream::connect(point.local_addr()).unwrap();
    let hello = wire::Hello {
        protocol: wire::PROTOCOL,
        job: "digits-1".to_owned(),
        trial: 3,
        attempt: 0,
        generation: 6,
        rank: 1,
        to: 0,
        world_size: 2,
        token: "secret".to_owned(),
        cpu_kind: cpu_kind(),
    };
    wire::send_handshake(&late, &hello).unwrap();
    late.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap(), 0);
}

#[test]
fn mixed_kinds_of_cpu_are_refused_on_both_sides() {
    let points = [rendezvous(), rendezvous()];
    let addresses = addresses(&points);
    let (timeouts, cancel) = (Timeouts::default(), Cancel::new());
    thread::scope(|scope| {
        let zero = scope.spawn(|| points[0].join(&membership(0, &addresses), timeouts, &cancel));
        let other = Membership {
            cpu_kind: "x86_64/none".to_owned(),
            ..membership(1, &addresses)
        };
        let here = points[1].join(&other, timeouts, &cancel).unwrap_err();
        let there = zero.join().unwrap().unwrap_err();
        for (error, rank) in [(here, 0), (there, 1)] {
            assert!(
                matches!(&error, CollectiveError::MixedCpu { rank: other, .. } if *other == rank),
                "{error}"
            );
            assert!(error.to_string().contains("x86_64/none"), "{error}");
        }
    });
}

#[test]
fn attempts_share_a_listener_without_meeting() {
    let points = [rendezvous(), rendezvous()];
    let addresses = addresses(&points);
    let (timeouts, cancel) = (Timeouts::default(), Cancel::new());
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..6u64)
            .map(|number| {
                let (rank, generation) = ((number % 2) as usize, number / 2);
                let (point, cancel) = (&points[rank], &cancel);
                let membership = Membership {
                    generation: Generation(generation),
                    ..membership(rank, &addresses)
                };
                scope.spawn(move || {
                    let mut group = point.join(&membership, timeouts, cancel).unwrap();
                    let said = group.all_gather(&[generation as u8]).unwrap();
                    assert_eq!(said, [[generation as u8], [generation as u8]]);
                })
            })
            .collect();
        ranks.into_iter().for_each(|rank| rank.join().unwrap());
    });
}

#[test]
fn ranks_of_one_worker_share_its_rendezvous() {
    let points = [rendezvous(), rendezvous()];
    let [one, other] = points
        .each_ref()
        .map(|point| point.local_addr().to_string());
    // A rank that is called at one address twice must be told apart by whom it calls.
    let addresses = [one.clone(), one.clone(), other, one];
    let groups = thread::scope(|scope| {
        let joins: Vec<_> = (0..addresses.len())
            .map(|rank| {
                let point = &points[usize::from(rank == 2)];
                let membership = membership(rank, &addresses);
                scope.spawn(move || {
                    let cancel = Cancel::new();
                    point
                        .join(&membership, Timeouts::default(), &cancel)
                        .unwrap()
                })
            })
            .collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    });
    let shape = Shape {
        leaves: 8,
        values: 100,
        scalars: 2,
    };
    expect_same_sum(groups, shape, 5);
}
