//! Requests while they come in: what they hold is counted, and a part of one is not waited for without end.
//!
//! The decoder makes room for a whole message as soon as it knows the length, which whoever sends it says
//! first. So that length counts against what all clients may have under way, and against the share of this
//! one, before the decoder sees it. Messages within one frame are not counted: calls are.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};

use super::UPLOAD_PATH;
use crate::clients::{Client, Full, Held, Tally};

/// What comes before each message of a body: a flag, and the length as 32 bits, the highest first.
const HEADER_BYTES: usize = 5;

/// What a service receives.
#[derive(Debug, Clone)]
pub(super) struct Receiving {
    /// Bytes of all clients that are under way.
    pub(super) room: Arc<Tally>,
    /// The largest message of a call of this path, bytes.
    pub(super) most: fn(&str) -> usize,
    pub(super) patience: Patience,
}

/// How long is waited for the rest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// A request has one message: all of it is to be there so long after the call began.
    Request(Duration),
    /// A message that has begun is to be whole within this; there may be others, and pauses between them.
    Message(Duration),
}

/// What a request holds until it is answered.
pub(super) type Kept = Arc<Mutex<Option<Held>>>;

impl Patience {
    /// With a call of this path.
    fn of(self, path: &str) -> Self {
        match (self, path) {
            (Self::Request(limit), UPLOAD_PATH) => Self::Message(limit),
            (own, _) => own,
        }
    }
}

impl Receiving {
    /// The request with its body counted and timed, and what it holds beyond its body's end.
    pub(super) fn count(
        &self,
        request: http::Request<Body>,
        client: Client,
    ) -> (http::Request<Body>, Kept) {
        let kept = Kept::default();
        let most = (self.most)(request.uri().path());
        let patience = self.patience.of(request.uri().path());
        let request = request.map(|body| {
            Body::new(Received {
                body,
                client,
                most,
                room: Arc::clone(&self.room),
                patience,
                position: Position::default(),
                incoming: None,
                whole: None,
                until: match patience {
                    Patience::Request(limit) => Some(Box::pin(tokio::time::sleep(limit))),
                    Patience::Message(_) => None,
                },
                kept: Arc::clone(&kept),
            })
        });
        (request, kept)
    }
}

/// A body that counts.
struct Received {
    body: Body,
    client: Client,
    most: usize,
    room: Arc<Tally>,
    patience: Patience,
    position: Position,
    /// Of the message of which more is to come.
    incoming: Option<Held>,
    /// Of a message among others that is whole, and is still read or worked on.
    whole: Option<Held>,
    until: Option<Pin<Box<Sleep>>>,
    /// Of a request that is whole.
    kept: Kept,
}

impl Received {
    /// Takes note of a frame, before the decoder does.
    fn passed(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let passed = self.position.pass(bytes);
        if passed.ended {
            let whole = self.incoming.take();
            match self.patience {
                // Nothing panics while the lock is held.
                Patience::Request(_) => {
                    *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = whole;
                }
                Patience::Message(_) => {
                    self.whole = whole;
                    self.until = None;
                }
            }
        }
        if let Some(bytes) = passed.announced {
            if bytes > self.most {
                let most = self.most;
                return Err(Status::invalid_argument(format!(
                    "message: {bytes} bytes given; accepted: at most {most}"
                )));
            }
            let held = self.room.take(self.client, bytes);
            self.incoming = Some(held.map_err(full)?);
        }
        if let (Patience::Message(limit), None, true) =
            (self.patience, &self.until, self.position.within())
        {
            self.until = Some(Box::pin(tokio::time::sleep(limit)));
        }
        Ok(())
    }

    fn late(&self) -> Status {
        let (what, limit) = match self.patience {
            Patience::Request(limit) => ("the request", limit),
            Patience::Message(limit) => ("a message", limit),
        };
        let seconds = limit.as_secs_f64();
        Status::deadline_exceeded(format!("{what} was not whole within {seconds} s"))
    }
}

/// Others may be done with soon; one's own share is one's own affair.
fn full(full: Full) -> Status {
    let text = format!("bytes of requests that are not answered yet: {full}");
    match full {
        Full::Total { .. } => Status::unavailable(text),
        Full::Client { .. } => Status::resource_exhausted(text),
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Whoever asks for more has done with the message before.
        self.whole = None;
        // Looked at first: bytes that drip in are always there.
        let until = self.until.as_mut();
        if until.is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            self.until = None;
            return Poll::Ready(Some(Err(self.late())));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            ended => {
                self.until = None;
                return Poll::Ready(ended);
            }
        };
        let Some(bytes) = frame.data_ref() else {
            self.until = None;
            return Poll::Ready(Some(Ok(frame)));
        };
        Poll::Ready(Some(self.passed(bytes).map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in its messages a body is.
#[derive(Debug, Default)]
struct Position {
    header: [u8; HEADER_BYTES],
    /// Bytes of the present message's header that were there.
    begun: usize,
    /// Bytes of the present message that are still to come once its header is there.
    left: usize,
}

/// What some more bytes are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    /// The message that was under way has ended.
    ended: bool,
    /// One of so many bytes has begun, and more of it is to come.
    announced: Option<usize>,
}

impl Position {
    /// Whether a message has begun and not ended.
    fn within(&self) -> bool {
        self.begun > 0
    }

    fn pass(&mut self, mut bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        while !bytes.is_empty() {
            if self.begun < HEADER_BYTES {
                let (first, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.begun));
                self.header[self.begun..][..first.len()].copy_from_slice(first);
                self.begun += first.len();
                bytes = rest;
                if self.begun == HEADER_BYTES {
                    let [_, length @ ..] = self.header;
                    self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                    passed.announced = Some(self.left);
                }
            }
            let more = bytes.len().min(self.left);
            bytes = &bytes[more..];
            self.left -= more;
            if self.begun == HEADER_BYTES && self.left == 0 {
                passed.ended = true;
                passed.announced = None;
                self.begun = 0;
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body::Body as _;
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    /// A message of so many bytes with its header.
    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![7; bytes]].concat()
    }

    proptest! {
        #[test]
        fn a_body_is_followed_however_it_is_cut(
            sizes in prop::collection::vec(0_usize..40, 0..8),
            cut in 1_usize..50,
        ) {
            let whole: Vec<u8> = sizes.iter().flat_map(|bytes| message(*bytes)).collect();
            let ends: Vec<usize> = sizes.iter().scan(0, |at, bytes| {
                *at += HEADER_BYTES + bytes;
                Some(*at)
            }).collect();
            let (mut position, mut at) = (Position::default(), 0);
            for piece in whole.chunks(cut) {
                let from = at;
                at += piece.len();
                let passed = position.pass(piece);
                let ended = ends.iter().any(|end| (from + 1..=at).contains(end));
                prop_assert_eq!(passed.ended, ended);
                // The message in which this piece ends, where its header became whole in it.
                let begun = ends.iter().position(|end| at < *end).map(|index| {
                    (if index == 0 { 0 } else { ends[index - 1] }, sizes[index])
                });
                let announced = begun.and_then(|(start, bytes)| {
                    let known = start + HEADER_BYTES;
                    (known > from && known <= at).then_some(bytes)
                });
                prop_assert_eq!(passed.announced, announced);
                prop_assert_eq!(position.within(), !ends.contains(&at));
            }
        }
    }

    /// A body whose frames are sent.
    struct Sent(mpsc::UnboundedReceiver<Vec<u8>>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let next = ready!(self.0.poll_recv(cx));
            Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes.into()))))
        }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    fn receive(
        room: &Arc<Tally>,
        patience: Patience,
    ) -> (mpsc::UnboundedSender<Vec<u8>>, Body, Kept) {
        let (sender, sent) = mpsc::unbounded_channel();
        let receiving = Receiving {
            room: Arc::clone(room),
            most: |_| 1_000,
            patience,
        };
        let request = http::Request::new(Body::new(Sent(sent)));
        let (request, kept) = receiving.count(request, Client::at(None));
        (sender, request.into_body(), kept)
    }

    async fn frame(body: &mut Body) -> Result<usize, Status> {
        let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let frame = next.expect("the body goes on")?;
        Ok(frame.data_ref().map_or(0, Bytes::len))
    }

    #[tokio::test]
    async fn what_is_announced_is_held_until_the_request_is_answered() {
        let room = Tally::new(1_000, 600);
        let (sender, mut body, kept) = receive(&room, Patience::Request(LIMIT));
        let whole = message(500);
        sender.send(whole[..5].to_vec()).unwrap();
        assert_eq!(frame(&mut body).await.unwrap(), 5);
        // The share of one client is held by five bytes.
        let (other, mut refused, _kept) = receive(&room, Patience::Request(LIMIT));
        other.send(whole[..6].to_vec()).unwrap();
        let error = frame(&mut refused).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(error.message().contains("all 600"), "{error}");
        sender.send(whole[5..].to_vec()).unwrap();
        frame(&mut body).await.unwrap();
        assert!(frame(&mut body).now_or_never().is_none());
        drop(body);
        let client = Client::at(None);
        assert!(room.take(client, 600).is_err(), "it is not answered yet");
        drop(kept);
        assert!(room.take(client, 600).is_ok());
    }

    #[tokio::test]
    async fn a_stream_holds_what_is_worked_on() {
        let room = Tally::new(1_000, 1_000);
        let (sender, mut body, _kept) = receive(&room, Patience::Message(LIMIT));
        let client = Client::at(None);
        let two = [message(400), message(500)].concat();
        sender.send(two[..100].to_vec()).unwrap();
        sender.send(two[100..600].to_vec()).unwrap();
        sender.send(two[600..].to_vec()).unwrap();
        frame(&mut body).await.unwrap();
        frame(&mut body).await.unwrap();
        assert!(room.take(client, 101).is_err(), "both are there");
        frame(&mut body).await.unwrap();
        assert!(room.take(client, 500).is_ok(), "the first was read");
        assert!(frame(&mut body).now_or_never().is_none());
        assert!(room.take(client, 1_000).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_not_waited_for_without_end() {
        let room = Tally::new(1_000, 1_000);
        let (sender, mut body, _kept) = receive(&room, Patience::Request(LIMIT));
        // Nothing at all, or a byte now and then: all the same.
        let dripping = async {
            loop {
                sender.send(vec![0]).unwrap();
                tokio::time::sleep(LIMIT / 20).await;
            }
        };
        let reading = async { while frame(&mut body).await.is_ok() {} };
        let begun = tokio::time::Instant::now();
        tokio::select! {
            () = dripping => {}
            () = reading => {}
        }
        assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
        let (sender, mut body, _kept) = receive(&room, Patience::Message(LIMIT));
        let pause = tokio::time::timeout(100 * LIMIT, frame(&mut body)).await;
        assert!(pause.is_err(), "between messages there may be pauses");
        sender.send(message(100)[..50].to_vec()).unwrap();
        frame(&mut body).await.unwrap();
        let error = frame(&mut body).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(error.message(), "a message was not whole within 10 s");
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_comes() {
        let room = Tally::new(1_000_000, 1_000_000);
        let (sender, mut body, _kept) = receive(&room, Patience::Request(LIMIT));
        sender.send(message(1_001)[..5].to_vec()).unwrap();
        let error = frame(&mut body).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        let expected = "message: 1001 bytes given; accepted: at most 1000";
        assert_eq!(error.message(), expected);
    }
}
