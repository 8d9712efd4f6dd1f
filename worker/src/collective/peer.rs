//! One rank's connection to another: a thread that reads, a thread that writes, and how long silence
//! has lasted. Knows frames, not what they mean.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::{self, Frame, Kind};
use super::{CollectiveError, Timeouts};

/// Frames queued for one peer. An operation has at most two under way, and ranks are at most one
/// operation apart.
const OUTGOING_FRAMES: usize = 8;
/// Frames that one peer's reader may hand over before they are looked at.
pub(crate) const INCOMING_FRAMES: usize = 4;
/// Signs of life in the time after which silence means loss.
const PINGS: u32 = 4;
/// The threads only move bytes.
const THREAD_STACK: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    pub(crate) outgoing: Option<SyncSender<Vec<u8>>>,
    pub(crate) inbox: VecDeque<Frame>,
    /// Bytes that have come from it.
    received: Arc<AtomicU64>,
    /// It has said that it leaves.
    pub(crate) left: bool,
    reader: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

/// What a connection's threads tell the rank, with the number of the other one.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(usize, Frame),
    Lost(usize, io::Error),
}

impl Peer {
    pub(crate) fn start(
        rank: usize,
        stream: TcpStream,
        events: &SyncSender<Event>,
        no_progress: Duration,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(no_progress))?;
        let received = Arc::<AtomicU64>::default();
        let (outgoing, queue) = sync_channel::<Vec<u8>>(OUTGOING_FRAMES);
        let thread = |name: &str| {
            std::thread::Builder::new()
                .name(format!("rank-{rank}-{name}"))
                .stack_size(THREAD_STACK)
        };
        let reader = {
            let (events, stream) = (events.clone(), stream.try_clone()?);
            let stream = Counted {
                stream,
                received: Arc::clone(&received),
            };
            thread("reader").spawn(move || read_all(rank, stream, &events))?
        };
        let writer = {
            let (events, stream) = (events.clone(), stream.try_clone()?);
            let every = no_progress / PINGS;
            thread("writer").spawn(move || write_all(rank, &stream, &queue, &events, every))?
        };
        Ok(Self {
            stream,
            outgoing: Some(outgoing),
            inbox: VecDeque::new(),
            received,
            left: false,
            reader: Some(reader),
            writer: Some(writer),
        })
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the connection at once: what is queued is not sent.
    pub(crate) fn cut(&self) {
        // An error means that it is down already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Queues a last frame, if there is one, and closes the queue.
    pub(crate) fn close(&mut self, last: Option<Vec<u8>>) {
        if let (Some(outgoing), Some(last)) = (self.outgoing.take(), last) {
            // Full or closed: the peer does not listen, and will see the connection end.
            let _ = outgoing.try_send(last);
        }
    }

    /// Waits until everything queued is written or cannot be; bounded by the connection's timeout.
    pub(crate) fn join_writer(&mut self) {
        self.writer.take().into_iter().for_each(join);
    }

    /// Cuts the connection and waits for the reader. Nobody may hold up its events any more.
    pub(crate) fn join_reader(&mut self) {
        self.cut();
        self.reader.take().into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::warn!("a thread of a rank's connection had panicked");
    }
}

/// Hands over frames until the connection ends or nobody takes them any more.
fn read_all(rank: usize, mut stream: Counted, events: &SyncSender<Event>) {
    loop {
        match wire::read_frame(&mut stream) {
            Ok(frame) if frame.kind == Kind::Ping => {}
            Ok(frame) => {
                if events.send(Event::Frame(rank, frame)).is_err() {
                    return;
                }
            }
            Err(error) => {
                // If nobody listens any more, nobody needs to know.
                let _ = events.send(Event::Lost(rank, error));
                return;
            }
        }
    }
}

/// Writes queued frames, and signs of life between them, until the queue is closed or the connection
/// ends.
fn write_all(
    rank: usize,
    mut stream: &TcpStream,
    queue: &Receiver<Vec<u8>>,
    events: &SyncSender<Event>,
    ping_every: Duration,
) {
    loop {
        let mut frame = match queue.recv_timeout(ping_every) {
            Ok(frame) => frame,
            Err(RecvTimeoutError::Timeout) => {
                let mut ping = wire::open_frame(0);
                wire::seal_frame(&mut ping, Kind::Ping, 0);
                ping
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        wire::sign_frame(&mut frame);
        if let Err(error) = stream.write_all(&frame) {
            // Of a closed connection the reader tells, once it has read what came before the end.
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                // If nobody listens any more, nobody needs to know.
                let _ = events.try_send(Event::Lost(rank, error));
                let _ = stream.shutdown(Shutdown::Both);
            }
            return;
        }
    }
}

/// Counts what comes in, so that a long message is seen to make progress.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Since when nothing has come.
pub(crate) struct Wait {
    /// The last message.
    pub(crate) started: Instant,
    /// By rank: bytes seen, and when the last of them came.
    seen: Vec<(u64, Instant)>,
}

impl Wait {
    pub(crate) fn new(peers: &[Option<Peer>]) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            seen: peers
                .iter()
                .map(|peer| (peer.as_ref().map_or(0, Peer::received), now))
                .collect(),
        }
    }

    /// Whether a rank that is waited for has been silent, or all have stalled, for too long.
    pub(crate) fn check(
        &mut self,
        peers: &[Option<Peer>],
        waiting: &[usize],
        operation: &'static str,
        timeouts: Timeouts,
    ) -> Result<(), CollectiveError> {
        let now = Instant::now();
        for &rank in waiting {
            let received = peers[rank].as_ref().map_or(0, Peer::received);
            let (seen, since) = &mut self.seen[rank];
            if *seen != received {
                (*seen, *since) = (received, now);
            }
            if now - *since >= timeouts.no_progress {
                return Err(CollectiveError::NoProgress {
                    operation,
                    rank,
                    seconds: (now - *since).as_secs(),
                });
            }
        }
        if now - self.started >= timeouts.stall {
            return Err(CollectiveError::Stalled {
                operation,
                waiting: waiting.to_vec(),
                seconds: (now - self.started).as_secs(),
            });
        }
        Ok(())
    }
}
