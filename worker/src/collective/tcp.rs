//! A group whose ranks are connected with each other by TCP.
//!
//! Each connection has a thread that reads frames as they come and one that writes, so that large
//! messages both ways cannot block each other. The caller's thread waits on one queue for whatever
//! comes next, looks at the cancel switch, and gives up when no byte has come from a rank for too long.
//! Idle writers send signs of life, so that a rank which computes or saves is not taken for lost.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::partition::{self, Shape, Subtree};
use super::peer::{Event, INCOMING_FRAMES, Peer, Wait};
use super::tree::{self, Node};
use super::wire::{self, Frame, Kind};
use super::{Cancel, CollectiveError, Group, Timeouts, TreeSum};

/// How often a wait looks at its cancel switch and its deadline.
const POLL: Duration = Duration::from_millis(20);

/// This rank's end of a full mesh.
#[derive(Debug)]
pub struct TcpGroup {
    rank: usize,
    /// By rank; `None` at this one's place.
    peers: Vec<Option<Peer>>,
    events: Option<Receiver<Event>>,
    /// Number of the operation under way.
    sequence: u64,
    timeouts: Timeouts,
    cancel: Cancel,
    sent: u64,
    failed: bool,
    /// Vectors of earlier sums, used again.
    spare: Vec<Vec<f32>>,
    /// `host:port` of every rank, by rank, for messages; empty if it is not known.
    addresses: Vec<String>,
}

impl TcpGroup {
    pub(crate) fn start(
        rank: usize,
        streams: Vec<Option<TcpStream>>,
        timeouts: Timeouts,
        cancel: Cancel,
    ) -> Result<Self, CollectiveError> {
        let (events, receiver) = sync_channel(INCOMING_FRAMES * streams.len());
        let mut group = Self {
            rank,
            peers: Vec::new(),
            events: Some(receiver),
            sequence: 0,
            timeouts,
            cancel,
            sent: 0,
            failed: false,
            spare: Vec::new(),
            addresses: Vec::new(),
        };
        for (number, stream) in streams.into_iter().enumerate() {
            let peer = stream
                .map(|stream| Peer::start(number, stream, &events, timeouts.no_progress))
                .transpose()
                .map_err(|source| CollectiveError::Io {
                    action: "set up the connection to a rank",
                    source,
                })?;
            group.peers.push(peer);
        }
        Ok(group)
    }

    /// With where each rank is, by rank.
    pub(crate) fn at(mut self, addresses: &[String]) -> Self {
        self.addresses = addresses.to_vec();
        self
    }

    /// Bytes handed to the network so far, headers included.
    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Makes this rank go like a killed process: without a goodbye.
    #[cfg(test)]
    pub(crate) fn fail(mut self) {
        self.failed = true;
    }

    fn others(&self) -> Vec<usize> {
        (0..self.peers.len())
            .filter(|&at| at != self.rank)
            .collect()
    }

    /// Remembers that an operation failed: the other ranks must see this one as lost.
    fn guard<T>(&mut self, result: Result<T, CollectiveError>) -> Result<T, CollectiveError> {
        self.failed |= result.is_err();
        result
    }

    fn send(&mut self, to: usize, kind: Kind, mut frame: Vec<u8>) -> Result<(), CollectiveError> {
        wire::seal_frame(&mut frame, kind, self.sequence);
        self.sent += frame.len() as u64;
        let mut wait = Wait::new(&self.peers);
        loop {
            let Some(outgoing) = self.peers[to].as_ref().and_then(|p| p.outgoing.as_ref()) else {
                return Err(lost(to, "it has left".to_owned()));
            };
            match outgoing.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => frame = back,
                Err(TrySendError::Disconnected(_)) => {
                    return Err(lost(to, "its connection is closed".to_owned()));
                }
            }
            self.next_event("sending", &[to], &mut wait)?;
        }
    }

    /// The frame of the operation under way from each of the other ranks, in the order of ranks.
    fn receive(
        &mut self,
        kind: Kind,
        operation: &'static str,
    ) -> Result<Vec<Option<Frame>>, CollectiveError> {
        let mut frames: Vec<Option<Frame>> = (0..self.peers.len()).map(|_| None).collect();
        let mut wait = Wait::new(&self.peers);
        loop {
            let mut waiting = Vec::new();
            for (from, peer) in self.peers.iter_mut().enumerate() {
                let Some(peer) = peer.as_mut().filter(|_| frames[from].is_none()) else {
                    continue;
                };
                match peer.inbox.pop_front() {
                    Some(frame) => {
                        frames[from] = Some(in_step(from, frame, kind, self.sequence)?);
                    }
                    None if peer.left => {
                        return Err(lost(from, format!("it left before {operation}")));
                    }
                    None => waiting.push(from),
                }
            }
            if waiting.is_empty() {
                return Ok(frames);
            }
            self.next_event(operation, &waiting, &mut wait)?;
        }
    }

    /// Waits a moment for the next frame from anyone and files it.
    fn next_event(
        &mut self,
        operation: &'static str,
        waiting: &[usize],
        wait: &mut Wait,
    ) -> Result<(), CollectiveError> {
        if self.cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        let Some(events) = &self.events else {
            return Err(CollectiveError::Cancelled);
        };
        match events.recv_timeout(POLL) {
            Ok(Event::Frame(from, frame)) => {
                wait.started = Instant::now();
                self.file(from, frame);
            }
            Ok(Event::Lost(from, error)) => match &mut self.peers[from] {
                Some(peer) if peer.left => {}
                _ if error.kind() == ErrorKind::InvalidData => {
                    return Err(CollectiveError::Damaged {
                        rank: from,
                        reason: error.to_string(),
                    });
                }
                _ => return Err(lost(from, describe(&error))),
            },
            Err(RecvTimeoutError::Timeout) => {
                return wait.check(&self.peers, waiting, operation, self.timeouts);
            }
            Err(RecvTimeoutError::Disconnected) => {
                let rank = waiting.first().copied().unwrap_or(self.rank);
                return Err(lost(rank, "every connection is closed".to_owned()));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: usize, frame: Frame) {
        if let Some(peer) = &mut self.peers[from] {
            if frame.kind == Kind::Bye {
                peer.left = true;
            } else {
                peer.inbox.push_back(frame);
            }
        }
    }

    /// Sends every owner of a slice this rank's partials of it.
    fn scatter(&mut self, shape: Shape, partials: &[Node]) -> Result<(), CollectiveError> {
        let world_size = self.peers.len();
        for to in self.others() {
            let bytes = partition::partial_bytes(shape, world_size, self.rank, to);
            let slice = partition::slice(shape.values, world_size, to);
            let mut frame = wire::open_frame(bytes);
            for node in partials {
                wire::put_f64(&mut frame, &node.scalars);
                wire::put_f32(&mut frame, &node.values[slice.clone()]);
            }
            self.send(to, Kind::Partials, frame)?;
        }
        Ok(())
    }

    /// Receives all partials of this rank's slice and finishes the tree over them.
    fn finish_slice(&mut self, shape: Shape, own: &[Node]) -> Result<Node, CollectiveError> {
        let world_size = self.peers.len();
        let slice = partition::slice(shape.values, world_size, self.rank);
        let frames = self.receive(Kind::Partials, "the sum of gradients")?;
        let mut stack = Vec::new();
        for (from, frame) in frames.into_iter().enumerate() {
            let places =
                partition::subtrees(partition::owned_leaves(shape.leaves, world_size, from));
            match frame {
                None => push_own(&mut stack, own, &slice, &mut self.spare),
                Some(frame) => {
                    let expected = partition::partial_bytes(shape, world_size, from, self.rank);
                    check_length(from, "the sum of gradients", &frame, expected)?;
                    let mut payload = frame.payload.as_slice();
                    for place in places {
                        let node =
                            take_node(&mut payload, place, shape, slice.len(), &mut self.spare);
                        self.spare.extend(tree::push(&mut stack, node));
                    }
                }
            }
        }
        match stack.pop() {
            Some(root) if stack.is_empty() && root.place.leaves() == (0..shape.leaves) => Ok(root),
            _ => Err(CollectiveError::Membership {
                reason: format!("the ranks' partials do not make up {} leaves", shape.leaves),
            }),
        }
    }

    fn try_tree_sum(&mut self, sums: &mut TreeSum) -> Result<(), CollectiveError> {
        let shape = sums.shape();
        let world_size = self.peers.len();
        partition::check(shape.leaves, world_size)
            .map_err(|reason| CollectiveError::Membership { reason })?;
        let own = partition::subtrees(partition::owned_leaves(shape.leaves, world_size, self.rank));
        let partials = sums
            .partials()
            .filter(|nodes| nodes.iter().map(|node| node.place).eq(own))
            .ok_or_else(|| CollectiveError::Membership {
                reason: format!("rank {} did not sum exactly its own shards", self.rank),
            })?;
        self.scatter(shape, partials)?;
        let root = self.finish_slice(shape, partials)?;
        for to in self.others() {
            let mut frame = wire::open_frame(size_of_val(root.values.as_slice()));
            wire::put_f32(&mut frame, &root.values);
            self.send(to, Kind::Slice, frame)?;
        }
        let mut frames = self.receive(Kind::Slice, "the gathering of gradients")?;
        self.sequence += 1;
        let finished = root.values;
        sums.finish(root.scalars, |values| {
            for (from, frame) in frames.iter_mut().enumerate() {
                let target = &mut values[partition::slice(shape.values, world_size, from)];
                match frame {
                    None => target.copy_from_slice(&finished),
                    Some(frame) => {
                        let expected = size_of_val(target);
                        check_length(from, "the gathering of gradients", frame, expected)?;
                        wire::get_f32(&frame.payload, target);
                    }
                }
            }
            Ok(())
        })?;
        self.spare.push(finished);
        Ok(())
    }

    fn try_all_gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        for to in self.others() {
            let mut frame = wire::open_frame(bytes.len());
            frame.extend_from_slice(bytes);
            self.send(to, Kind::Gather, frame)?;
        }
        let frames = self.receive(Kind::Gather, "a gathering")?;
        self.sequence += 1;
        let contributions = frames
            .into_iter()
            .map(|frame| frame.map_or_else(|| bytes.to_vec(), |frame| frame.payload))
            .collect();
        Ok(contributions)
    }
}

impl Group for TcpGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.peers.len()
    }

    fn address(&self, rank: usize) -> Option<&str> {
        self.addresses.get(rank).map(String::as_str)
    }

    fn tree_sum(&mut self, sums: &mut TreeSum) -> Result<(), CollectiveError> {
        let result = self.try_tree_sum(sums);
        self.guard(result)
    }

    fn all_gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let result = self.try_all_gather(bytes);
        self.guard(result)
    }
}

impl Drop for TcpGroup {
    /// Says goodbye if all went well, so that ranks which still work do not take this one for lost.
    fn drop(&mut self) {
        let clean = !self.failed && !self.cancel.is_cancelled() && !std::thread::panicking();
        let mut bye = wire::open_frame(0);
        wire::seal_frame(&mut bye, Kind::Bye, self.sequence);
        for peer in self.peers.iter_mut().flatten() {
            if !clean {
                peer.cut();
            }
            peer.close(clean.then(|| bye.clone()));
        }
        let mut peers: Vec<&mut Peer> = self.peers.iter_mut().flatten().collect();
        peers.iter_mut().for_each(|peer| peer.join_writer());
        self.events = None;
        peers.iter_mut().for_each(|peer| peer.join_reader());
    }
}

fn lost(rank: usize, reason: String) -> CollectiveError {
    CollectiveError::PeerLost { rank, reason }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it takes no data".to_owned(),
        _ => error.to_string(),
    }
}

fn in_step(from: usize, frame: Frame, kind: Kind, sequence: u64) -> Result<Frame, CollectiveError> {
    if frame.kind == kind && frame.sequence == sequence {
        return Ok(frame);
    }
    let name = |kind: Kind, sequence: u64| format!("{kind:?} of operation {sequence}");
    Err(CollectiveError::OutOfStep {
        rank: from,
        given: name(frame.kind, frame.sequence),
        expected: name(kind, sequence),
    })
}

fn check_length(
    rank: usize,
    operation: &'static str,
    frame: &Frame,
    expected: usize,
) -> Result<(), CollectiveError> {
    if frame.payload.len() == expected {
        return Ok(());
    }
    Err(CollectiveError::WrongLength {
        rank,
        operation,
        given: frame.payload.len(),
        expected,
    })
}

fn push_own(stack: &mut Vec<Node>, own: &[Node], slice: &Range<usize>, spare: &mut Vec<Vec<f32>>) {
    for node in own {
        let mut values = spare.pop().unwrap_or_default();
        values.clear();
        values.extend_from_slice(&node.values[slice.clone()]);
        let part = Node {
            place: node.place,
            values,
            scalars: node.scalars.clone(),
        };
        spare.extend(tree::push(stack, part));
    }
}

/// The next partial of a rank's message, whose length was checked.
fn take_node(
    payload: &mut &[u8],
    place: Subtree,
    shape: Shape,
    slice: usize,
    spare: &mut Vec<Vec<f32>>,
) -> Node {
    let (scalar_bytes, rest) = payload.split_at(shape.scalars * size_of::<f64>());
    let (value_bytes, rest) = rest.split_at(slice * size_of::<f32>());
    *payload = rest;
    let mut scalars = vec![0.0; shape.scalars];
    wire::get_f64(scalar_bytes, &mut scalars);
    let mut values = spare.pop().unwrap_or_default();
    values.resize(slice, 0.0);
    wire::get_f32(value_bytes, &mut values);
    Node {
        place,
        values,
        scalars,
    }
}
