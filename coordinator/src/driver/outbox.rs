//! What the driver has to say to one worker: a bounded queue, and a way to end the conversation.
//!
//! A worker that does not read is cut off when its queue is full, so that memory cannot grow.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CallError;
use crate::cluster::api::ToWorker;

/// Messages that wait for one worker. An assignment for each slot and then some: only a worker that
/// has stopped reading lets it fill up.
const CAPACITY: usize = 1024;

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

/// The driver's end. Clones speak to the same worker.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    end: SessionEnd,
}

/// The shell's end.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    queue: mpsc::Receiver<Outgoing>,
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
    let outbox = Outbox {
        queue: sender,
        end: end.clone(),
    };
    let reader = OutboxReader {
        queue: receiver,
        end,
    };
    (outbox, reader)
}

impl Outbox {
    /// Queues a message, or ends the session where the worker does not keep up. False: it has ended.
    pub(crate) fn send(&self, message: Outgoing) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end.end(CallError::TooSlow { waiting: CAPACITY });
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
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
            message = self.queue.recv() => message.map(Ok),
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
    async fn the_first_reason_stands() {
        let (outbox, mut reader) = outbox();
        outbox.end(CallError::Replaced("a newer session".to_owned()));
        outbox.end(CallError::Stopped);
        let reason = reader.next().await.unwrap().unwrap_err();
        assert!(matches!(*reason, CallError::Replaced(_)));
    }
}
