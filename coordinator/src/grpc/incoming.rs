//! Connections as they come in: how many there may be, and how long each may take to say something.
//!
//! A connection costs a file, of which a process has few. So each client may have so many; and one that has
//! not begun to speak HTTP/2 yet is closed after a while, or at once when its place is needed, the oldest
//! first: however many of them there are, whoever speaks is served.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::clients::{Client, Full, Held, Tally};

/// How long a connection may take to begin: a client sends what it begins with in its first packet.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What HTTP/2 begins with, bytes: the preface of 24, and the header of the first frame.
const HANDSHAKE_BYTES: usize = 24 + 9;

/// Connections that have not begun, in all and of one client: some thousand workers that come back at one
/// time are far quicker than it takes to fill this.
const MAX_OPENING: usize = 1_024;
const MAX_OPENING_OF_ONE: usize = 256;

/// Pause after the system had no file or memory for a connection; it is still in the queue then.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Between two lines of the log about connections that were turned away.
const QUIET: Duration = Duration::from_secs(10);

/// The connections of a listener, each counted until it is dropped. `most` in all, `of_one` of one client.
pub(super) fn incoming(
    listener: TcpListener,
    most: usize,
    of_one: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let doorman = Arc::new(Doorman {
        connections: Tally::new(most, of_one),
        opening: Tally::new(MAX_OPENING, MAX_OPENING_OF_ONE),
        waiting: Mutex::default(),
    });
    let mut complained = Complaint::default();
    async_stream::stream! {
        // Connections that have not begun are not waited for once nobody listens any more.
        let _closing = SendAwayOnDrop(Arc::clone(&doorman));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if exhausted(&error) {
                        complained.tell(&format!("a connection cannot be accepted: {error}"));
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                    continue;
                }
            };
            let client = Client::of(address.ip());
            match doorman.admit(client) {
                Ok(place) => {
                    // Small messages are not to wait for one another.
                    let _ = stream.set_nodelay(true);
                    yield Ok(Connection::new(stream, place));
                }
                Err(full) => complained.tell(&format!("a connection of {client} is closed: {full}")),
            }
        }
    }
}

/// Whether the process or the system has run out of something, rather than the connection being gone.
fn exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Tells the same trouble now and then, not each time.
#[derive(Default)]
struct Complaint {
    told: Option<Instant>,
    untold: u64,
}

impl Complaint {
    fn tell(&mut self, text: &str) {
        if self.told.is_some_and(|told| told.elapsed() < QUIET) {
            self.untold += 1;
            return;
        }
        tracing::warn!(others = self.untold, "{text}");
        self.told = Some(Instant::now());
        self.untold = 0;
    }
}

/// Knows how many connections there are, and which have not begun.
#[derive(Debug)]
struct Doorman {
    connections: Arc<Tally>,
    opening: Arc<Tally>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The oldest first.
    places: BTreeMap<u64, Opening>,
}

/// A connection that has not begun.
#[derive(Debug)]
struct Opening {
    client: Client,
    connection: Held,
    _opening: Held,
    /// Dropped, it ends the connection.
    _stay: oneshot::Sender<()>,
}

/// A connection's place among those that have not begun.
#[derive(Debug)]
struct Place {
    doorman: Arc<Doorman>,
    number: u64,
    sent_away: oneshot::Receiver<()>,
}

impl Doorman {
    /// A place for a new connection, if need be that of the oldest one that has not begun.
    fn admit(self: &Arc<Self>, client: Client) -> Result<Place, Full> {
        let mut waiting = self.waiting();
        let connection = waiting.make_room(&self.connections, client)?;
        let opening = waiting.make_room(&self.opening, client)?;
        let (stay, sent_away) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        let place = Opening {
            client,
            connection,
            _opening: opening,
            _stay: stay,
        };
        waiting.places.insert(number, place);
        Ok(Place {
            doorman: Arc::clone(self),
            number,
            sent_away,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics halfway through a change, so a poisoned lock holds a whole value.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn make_room(&mut self, tally: &Arc<Tally>, client: Client) -> Result<Held, Full> {
        let full = match tally.enter(client) {
            Ok(held) => return Ok(held),
            Err(full) => full,
        };
        let whose = |opening: &Opening| match full {
            Full::Client { .. } => opening.client == client,
            Full::Total { .. } => true,
        };
        let mut oldest_first = self.places.iter();
        let found = oldest_first.find(|(_, opening)| whose(opening));
        let oldest = *found.ok_or(full)?.0;
        self.places.remove(&oldest);
        tally.enter(client)
    }
}

impl Place {
    /// The connection has begun: it stays. `None`: its place was given away.
    fn begun(&self) -> Option<Held> {
        let opening = self.doorman.waiting().places.remove(&self.number)?;
        Some(opening.connection)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doorman.waiting().places.remove(&self.number);
    }
}

struct SendAwayOnDrop(Arc<Doorman>);

impl Drop for SendAwayOnDrop {
    fn drop(&mut self) {
        let places = std::mem::take(&mut self.0.waiting().places);
        drop(places);
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Opening {
        place: Place,
        until: Pin<Box<Sleep>>,
        read: usize,
    },
    Open {
        _held: Held,
    },
}

impl Connection {
    fn new(stream: TcpStream, place: Place) -> Self {
        Self {
            stream,
            stage: Stage::Opening {
                place,
                until: Box::pin(tokio::time::sleep(HANDSHAKE_TIMEOUT)),
                read: 0,
            },
        }
    }

    /// An error once a connection that has not begun is to end.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Stage::Opening { place, until, .. } = &mut self.stage else {
            return Ok(());
        };
        if Pin::new(&mut place.sent_away).poll(cx).is_ready() {
            let text = "others needed its place before it began";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        if until.as_mut().poll(cx).is_ready() {
            let text = "nothing was said in time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        let Stage::Opening { place, read, .. } = &mut self.stage else {
            return Ok(());
        };
        *read += bytes;
        if *read >= HANDSHAKE_BYTES {
            let held = place.begun().ok_or(io::ErrorKind::ConnectionAborted)?;
            self.stage = Stage::Open { _held: held };
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() {
            return match self.poll_patience(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };
        }
        ready!(polled)?;
        let read = buffer.filled().len() - before;
        Poll::Ready(self.count(read))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// Connections of one listener, as they come.
    async fn listen(
        most: usize,
        of_one: usize,
    ) -> (
        std::net::SocketAddr,
        Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, Box::pin(incoming(listener, most, of_one)))
    }

    /// What reading a connection comes to.
    async fn read(connection: &mut Connection) -> io::Result<usize> {
        connection.read(&mut [0; 64]).await
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed_in_time_and_who_speaks_stays() {
        let (address, mut coming) = listen(8, 8).await;
        let mut speaks = TcpStream::connect(address).await.unwrap();
        let mut spoken = coming.next().await.unwrap().unwrap();
        let mut drips = TcpStream::connect(address).await.unwrap();
        let mut dripped = coming.next().await.unwrap().unwrap();
        speaks.write_all(PREFACE).await.unwrap();
        drips.write_all(&PREFACE[..20]).await.unwrap();
        assert_eq!(read(&mut spoken).await.unwrap(), PREFACE.len());
        assert_eq!(read(&mut dripped).await.unwrap(), 20);
        tokio::time::pause();
        let error = read(&mut dripped).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The other one is waited for as long as it likes.
        let long = tokio::time::timeout(100 * HANDSHAKE_TIMEOUT, read(&mut spoken)).await;
        assert!(long.is_err(), "{long:?}");
    }

    #[tokio::test]
    async fn the_oldest_that_says_nothing_makes_room() {
        let (address, mut coming) = listen(2, 2).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let mut first = coming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut open = coming.next().await.unwrap().unwrap();
        second.write_all(PREFACE).await.unwrap();
        read(&mut open).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut newest = coming.next().await.unwrap().unwrap();
        let error = read(&mut first).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        third.write_all(PREFACE).await.unwrap();
        read(&mut newest).await.unwrap();
        // Both speak now: a fourth is turned away, and nobody makes room for it.
        let mut fourth = TcpStream::connect(address).await.unwrap();
        let refused = async { fourth.read(&mut [0; 1]).await };
        let refused = tokio::select! {
            read = refused => read,
            admitted = coming.next() => panic!("{admitted:?}"),
        };
        assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
        drop(newest);
        let _fifth = TcpStream::connect(address).await.unwrap();
        coming.next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_listening_ends_who_has_not_begun() {
        let (address, mut coming) = listen(8, 8).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut silent = coming.next().await.unwrap().unwrap();
        drop(coming);
        let error = read(&mut silent).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
