//! What comes to the loop, and how long it may wait for others to share its commit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use trainyard_common::ids::WorkerId;

use super::decided::Look;
use super::outbox::Outbox;
use crate::cluster::api::{Event, Rejection, Reply, Report, ReportBody};
use crate::cluster::model::SessionId;

/// Log lines wait so long for others to share their commit. The last ones of an attempt come right before
/// its end, for which a slot waits: a commit of their own would hold that up.
pub(super) const LINES_WAIT: Duration = Duration::from_millis(5);

/// Inputs that wait for the loop; who sends more waits, too.
const QUEUE: usize = 1024;

/// And what they hold, in units of a kibibyte: four of the largest messages, so that one sender does not hold
/// up all others.
const QUEUE_KIB: u32 = 64 * 1024;

/// What an input holds at least, bytes; and a job spec, which is no larger when it comes.
const SMALL: usize = 512;
const SPEC: usize = 1024 * 1024;

/// One thing for the loop.
pub(crate) enum Input {
    /// News; of a session, or of the driver itself.
    Tell {
        session: Option<SessionId>,
        event: Event,
    },
    /// A request that is answered.
    Ask {
        event: Event,
        reply: oneshot::Sender<Result<Option<Reply>, Rejection>>,
    },
    /// A worker that registers.
    Join {
        event: Event,
        session: SessionId,
        outbox: Outbox,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// A worker's answer to a probe.
    Probed {
        worker: WorkerId,
        path: String,
        error: String,
    },
    /// A look at the machine.
    Read(Look),
}

impl Input {
    pub(super) fn own(event: Event) -> Self {
        Self::Tell {
            session: None,
            event,
        }
    }

    /// What it holds, roughly, bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Tell { event, .. } | Self::Ask { event, .. } | Self::Join { event, .. } => {
                event_bytes(event)
            }
            Self::Probed { error, .. } => SMALL + error.len(),
            Self::Read(_) => SMALL,
        }
    }

    pub(super) fn patience(&self) -> Patience {
        let Self::Tell { event, .. } = self else {
            return Patience::None;
        };
        match event {
            Event::Reports { .. } => Patience::Flush,
            Event::Logs { .. } | Event::Heartbeat { .. } => Patience::Lines,
            _ => Patience::None,
        }
    }
}

/// Whether nobody minds if an input waits for others to share its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Somebody does.
    None,
    /// Until the store is to be given series again.
    Flush,
    /// That, and at least [`LINES_WAIT`].
    Lines,
}

fn event_bytes(event: &Event) -> usize {
    let held = match event {
        Event::Submit { .. } => SPEC,
        Event::Reports { reports, .. } => reports.iter().map(report_bytes).sum(),
        Event::Logs { lines, .. } => lines.iter().map(|line| 64 + line.text.len()).sum(),
        Event::Pulses { pulses, .. } => 128 * pulses.len(),
        Event::WorkerJoined { running, info, .. } => 128 * (running.len() + info.devices.len()),
        _ => 0,
    };
    SMALL + held
}

fn report_bytes(report: &Report) -> usize {
    let metrics = |metrics: &[(String, f64)]| -> usize {
        metrics.iter().map(|(name, _)| 32 + name.len()).sum()
    };
    let held = match &report.body {
        ReportBody::Started { .. } => 0,
        ReportBody::Progress(point) => metrics(&point.metrics),
        ReportBody::Checkpoint(saved) => saved.manifest.len() + metrics(&saved.metrics),
        ReportBody::Ended {
            error,
            test_metrics,
            ..
        } => error.len() + metrics(test_metrics),
        ReportBody::Refused { reason } => reason.len(),
        ReportBody::Dropped { manifests } => manifests.iter().map(|name| 32 + name.len()).sum(),
    };
    256 + held
}

/// The loop takes no more inputs.
#[derive(Debug)]
pub(crate) struct Closed;

/// An input on its way, and the room that it takes.
struct Queued {
    input: Input,
    _room: OwnedSemaphorePermit,
}

/// Where inputs are put. Clones are ends of the same queue.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// As [`Inputs`], without keeping the loop alive.
#[derive(Debug, Clone)]
pub(super) struct WeakInputs {
    queue: mpsc::WeakSender<Queued>,
    room: Arc<Semaphore>,
}

/// The loop's end.
#[derive(Debug)]
pub(super) struct InputQueue {
    queue: mpsc::Receiver<Queued>,
    room: Arc<Semaphore>,
    /// Taken in for the moment of a call; empty in between.
    taken: Vec<Queued>,
}

/// A queue that is bounded by the number of its inputs and by what they hold.
pub(super) fn queue() -> (Inputs, InputQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
    let inputs = Inputs {
        queue: sender,
        room: Arc::clone(&room),
    };
    let queue = InputQueue {
        queue: receiver,
        room,
        taken: Vec::new(),
    };
    (inputs, queue)
}

impl Inputs {
    /// Waits for room.
    pub(super) async fn send(&self, input: Input) -> Result<(), Closed> {
        let kib = u32::try_from(input.bytes() / 1024).unwrap_or(u32::MAX);
        // One that is larger than the whole queue waits until it has it for itself.
        let kib = kib.saturating_add(1).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        let _room = room.map_err(|_| Closed)?;
        let sent = self.queue.send(Queued { input, _room }).await;
        sent.map_err(|_| Closed)
    }

    pub(super) fn downgrade(&self) -> WeakInputs {
        WeakInputs {
            queue: self.queue.downgrade(),
            room: Arc::clone(&self.room),
        }
    }
}

impl WeakInputs {
    pub(super) fn upgrade(&self) -> Option<Inputs> {
        Some(Inputs {
            queue: self.queue.upgrade()?,
            room: Arc::clone(&self.room),
        })
    }
}

impl InputQueue {
    /// Waits for inputs, and takes at most so many; none once there will be no more. Loses nothing when it
    /// is cancelled.
    pub(super) async fn recv_many(&mut self, taken: &mut Vec<Input>, most: usize) -> usize {
        let count = self.queue.recv_many(&mut self.taken, most).await;
        taken.extend(self.taken.drain(..).map(|queued| queued.input));
        count
    }

    /// What is queued is still to be taken; nothing comes after it.
    pub(super) fn close(&mut self) {
        self.queue.close();
        self.room.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tell { .. } => "Tell",
            Self::Ask { .. } => "Ask",
            Self::Join { .. } => "Join",
            Self::Probed { .. } => "Probed",
            Self::Read(_) => "Read",
        })
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::cluster::api::LogText;
    use crate::cluster::model::{AttemptRef, RankRef};

    /// A line of so many bytes.
    fn line(bytes: usize) -> Input {
        let at = AttemptRef {
            job: "j".into(),
            trial: trainyard_common::ids::TrialId(0),
            attempt: trainyard_common::ids::AttemptId(0),
            generation: trainyard_common::ids::Generation(1),
        };
        Input::own(Event::Logs {
            session: SessionId(1),
            rank: RankRef { at, rank: 0 },
            first: 1,
            lines: vec![LogText {
                time_ms: 0,
                level: "info".to_owned(),
                text: "x".repeat(bytes),
            }],
        })
    }

    #[tokio::test]
    async fn large_inputs_wait_for_room_long_before_the_queue_is_full() {
        const LARGE: usize = 16 * 1024 * 1024;
        let (inputs, mut queue) = queue();
        let mut sent = 0;
        while inputs.send(line(LARGE)).now_or_never().is_some() {
            sent += 1;
        }
        assert_eq!(sent, 3);
        // Small ones still have room; larger than all of it comes alone.
        inputs.send(line(10)).now_or_never().unwrap().unwrap();
        let huge = tokio::spawn({
            let inputs = inputs.clone();
            async move { inputs.send(line(5 * LARGE)).await.is_ok() }
        });
        let (mut taken, mut all) = (Vec::new(), 0);
        while all < 5 {
            queue.recv_many(&mut taken, 2).await;
            all += taken.drain(..).count();
        }
        assert!(huge.await.unwrap());
        queue.close();
        assert!(inputs.send(line(1)).await.is_err());
    }
}
