//! What the driver has to say to one worker: a bounded queue, and a way to end the conversation.
//!
//! A worker that does not read is cut off when its queue is full, so that memory cannot grow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CallError;
use crate::cluster::api::ToWorker;
use trainyard_common::checkpoint::CheckpointRef;

/// Messages that wait for one worker. An assignment for each slot and then some: only a worker that
/// has stopped reading lets it fill up.
const CAPACITY: usize = 1024;

/// And what they hold, bytes: an assignment names at most some hundred checkpoints, some ten kilobytes, and
/// the largest message that a worker takes is a quarter of this.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One message to a worker; the shell adds the term.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Machine(ToWorker),
    ProbeStore {
        url: String,
        path: String,
        content: String,
        reply_path: String,
    },
}

impl Outgoing {
    /// What it holds, roughly, bytes. A trial's spec is held once for all its ranks, and by the machine.
    fn bytes(&self) -> usize {
        let held = match self {
            Self::ProbeStore { url, content, .. } => url.len() + content.len(),
            Self::Machine(ToWorker::Registered { abandon, .. }) => 128 * abandon.len(),
            Self::Machine(ToWorker::Assign(assignment)) => {
                let metrics = |checkpoint: &CheckpointRef| 64 * checkpoint.metrics.len();
                let named = assignment.checkpoints.iter();
                let checkpoints: usize = named.map(|named| 256 + metrics(named)).sum();
                checkpoints + 256 * assignment.ranks.len()
            }
            Self::Machine(_) => 0,
        };
        512 + held
    }
}

/// The driver's end. Clones speak to the same worker.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    /// Bytes of what waits.
    held: Arc<AtomicUsize>,
    end: SessionEnd,
}

/// The shell's end.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    queue: mpsc::Receiver<Outgoing>,
    held: Arc<AtomicUsize>,
    end: SessionEnd,
}

/// Ends a session for a reason that is fixed by the first who gives one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionEnd {
    token: CancellationToken,
    reason: Arc<OnceLock<Arc<CallError>>>,
}

impl SessionEnd {
    pub(crate) fn end(&self, reason: CallError) {
        // A later reason is only a consequence of the first.
        let _ = self.reason.set(Arc::new(reason));
        self.token.cancel();
    }

    /// Waits for the end and tells why.
    pub(crate) async fn ended(&self) -> Arc<CallError> {
        self.token.cancelled().await;
        self.reason
            .get()
            .cloned()
            .unwrap_or_else(|| Arc::new(CallError::Stopped))
    }
}

/// A queue to one worker.
pub(crate) fn outbox() -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let end = SessionEnd::default();
    let held = Arc::<AtomicUsize>::default();
    let outbox = Outbox {
        queue: sender,
        held: Arc::clone(&held),
        end: end.clone(),
    };
    let reader = OutboxReader {
        queue: receiver,
        held,
        end,
    };
    (outbox, reader)
}

impl Outbox {
    /// Queues a message, or ends the session where the worker does not keep up. False: it has ended.
    pub(crate) fn send(&self, message: Outgoing) -> bool {
        let bytes = message.bytes();
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let sent = match held <= MAX_BYTES {
            true => self.queue.try_send(message),
            false => Err(mpsc::error::TrySendError::Full(message)),
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = &sent {
            let waiting = self.queue.max_capacity() - self.queue.capacity();
            self.end.end(CallError::TooSlow { waiting });
        }
        sent.is_ok()
    }

    pub(crate) fn end(&self, reason: CallError) {
        self.end.end(reason);
    }
}

impl OutboxReader {
    pub(crate) fn session_end(&self) -> SessionEnd {
        self.end.clone()
    }

    /// The next message; the reason when the session has ended; `None` when nobody speaks any more.
    pub(crate) async fn next(&mut self) -> Option<Result<Outgoing, Arc<CallError>>> {
        tokio::select! {
            biased;
            reason = self.end.ended() => Some(Err(reason)),
            message = self.queue.recv() => {
                let message = message?;
                self.held.fetch_sub(message.bytes(), Ordering::Relaxed);
                Some(Ok(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Outgoing {
        Outgoing::Machine(ToWorker::Acknowledged { sequence: 1 })
    }

    #[tokio::test]
    async fn a_worker_that_does_not_read_is_cut_off() {
        let (outbox, mut reader) = outbox();
        for _ in 0..CAPACITY {
            assert!(outbox.send(message()));
        }
        assert!(!outbox.send(message()));
        let reason = reader.next().await.unwrap().unwrap_err();
        assert!(matches!(*reason, CallError::TooSlow { .. }));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_its_bytes_too() {
        let (outbox, mut reader) = outbox();
        let large = || Outgoing::ProbeStore {
            url: "x".repeat(MAX_BYTES / 4),
            path: String::new(),
            content: String::new(),
            reply_path: String::new(),
        };
        for _ in 0..20 {
            assert!(outbox.send(large()));
            assert!(matches!(reader.next().await, Some(Ok(_))));
        }
        let sent = (0..20).take_while(|_| outbox.send(large())).count();
        assert_eq!(sent, 3);
        let reason = reader.next().await.unwrap().unwrap_err();
        assert!(matches!(*reason, CallError::TooSlow { waiting: 3 }));
    }

    #[tokio::test]
    async fn the_first_reason_stands() {
        let (outbox, mut reader) = outbox();
        outbox.end(CallError::Replaced("a newer session".to_owned()));
        outbox.end(CallError::Stopped);
        let reason = reader.next().await.unwrap().unwrap_err();
        assert!(matches!(*reason, CallError::Replaced(_)));
    }
}
