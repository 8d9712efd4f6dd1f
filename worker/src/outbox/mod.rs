//! What attempts say, on its way to the coordinator: the shared buffers that attempts write to and
//! the session empties, and the handle of one attempt. Knows nothing of connections.

mod bounds;
mod logs;
mod reporter;
mod reports;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use trainyard_proto::MAX_REPORTS_PER_BATCH;
use trainyard_proto::v1::{LogBatch, Report, report::Body};

use crate::attempt::AttemptKey;
use logs::LogBuffer;
use reports::ReportBuffer;

pub(crate) use logs::Level;
pub(crate) use reporter::{Reporter, Room, now_ms};
pub(crate) use reports::Pushed;

/// So long reports that nothing waits for, and log lines, wait for more of them: those of a short
/// trial then share a message, and at the coordinator a commit, with its end.
const LINGER: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Outbox {
    buffers: Mutex<Buffers>,
    /// Something to send may have come.
    work: Notify,
    /// The highest acknowledged ticket, and how often anything was acknowledged.
    settled: watch::Sender<(u64, u64)>,
}

#[derive(Debug)]
struct Buffers {
    reports: ReportBuffer,
    logs: LogBuffer,
    /// Since when something waits to be sent.
    since: Option<Instant>,
    /// Some of it is not to wait for more.
    urgent: bool,
}

impl Buffers {
    fn came(&mut self, urgent: bool) {
        self.since.get_or_insert_with(Instant::now);
        self.urgent |= urgent;
    }

    /// Whether something could be handed out now.
    fn any(&self) -> bool {
        self.logs.has_next() || self.reports.has_next(|key| self.logs.has(key))
    }

    /// When what waits is to be sent, if anything does.
    fn due(&self) -> Option<Instant> {
        if !self.any() {
            return None;
        }
        let Some(since) = self.since else {
            // What had no room in the window has waited before.
            return Some(Instant::now());
        };
        let full = self.reports.unsent() >= MAX_REPORTS_PER_BATCH;
        Some(if self.urgent || full {
            since
        } else {
            since + LINGER
        })
    }

    /// Something was handed out for sending.
    fn left(&mut self) {
        if !self.any() {
            self.since = None;
            self.urgent = false;
        }
    }
}

/// Whether something waits for this to be known: a slot, a rung, or what may be deleted.
fn is_urgent(body: Option<&Body>) -> bool {
    !matches!(body, Some(Body::Started(_) | Body::Progress(_)))
}

impl Outbox {
    pub(crate) fn new(report_capacity: usize) -> Self {
        Self {
            buffers: Mutex::new(Buffers {
                reports: ReportBuffer::new(report_capacity),
                logs: LogBuffer::default(),
                since: None,
                urgent: false,
            }),
            work: Notify::new(),
            settled: watch::Sender::new((0, 0)),
        }
    }

    /// A panic while the lock was held leaves whole buffers: no operation on them stops halfway.
    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with the reports that the coordinator has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.settled.borrow().0
    }

    fn settle(&self) {
        let ticket = self.lock().reports.acknowledged_ticket();
        self.settled.send_modify(|(acknowledged, times)| {
            *acknowledged = ticket;
            *times += 1;
        });
    }

    /// `beyond`: whether or not there is room.
    fn push(&self, report: Report, beyond: bool) -> Pushed {
        let mut buffers = self.lock();
        buffers.came(is_urgent(report.body.as_ref()));
        let pushed = if beyond {
            buffers.reports.push_beyond(report)
        } else {
            buffers.reports.push(report)
        };
        drop(buffers);
        self.work.notify_one();
        pushed
    }

    /// Takes back a report that was never handed out. False: it was, and may be known.
    fn withdraw(&self, ticket: u64) -> bool {
        let withdrawn = self.lock().reports.withdraw(ticket);
        if withdrawn {
            // There is room for others, and perhaps nothing left to wait for.
            self.settle();
        }
        withdrawn
    }

    /// Resolves when something may have come since the last call, or is due.
    pub(crate) async fn work(&self) {
        let due = self.lock().due();
        tokio::select! {
            () = self.work.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }

    /// Whether something is to be sent now.
    pub(crate) fn is_due(&self) -> bool {
        self.lock().due().is_some_and(|due| due <= Instant::now())
    }

    /// The next reports to send. An attempt's end comes after the log lines that it has waiting, since
    /// whoever follows its log goes with it; none is handed out then, if it is the next, but log lines are.
    pub(crate) fn next_reports(&self) -> Vec<Report> {
        let mut buffers = self.lock();
        let Buffers { reports, logs, .. } = &mut *buffers;
        let batch = reports.next_batch(MAX_REPORTS_PER_BATCH, |key| logs.has(key));
        buffers.left();
        batch
    }

    pub(crate) fn next_logs(&self) -> Option<LogBatch> {
        let mut buffers = self.lock();
        let batch = buffers.logs.next_batch();
        buffers.left();
        batch
    }

    pub(crate) fn reconnected(&self) {
        let mut buffers = self.lock();
        buffers.reports.reconnected();
        buffers.logs.reconnected();
        buffers.urgent = true;
    }

    /// Reports up to `sequence` and log lines up to the number `lines` are durable.
    pub(crate) fn acknowledge(&self, sequence: u64, lines: u64) {
        let mut buffers = self.lock();
        buffers.reports.acknowledge(sequence);
        buffers.logs.acknowledge(lines);
        drop(buffers);
        self.settle();
        // The window may have opened.
        self.work.notify_one();
    }

    pub(crate) fn abandon(&self, key: &AttemptKey) {
        let mut buffers = self.lock();
        buffers.reports.abandon(key);
        buffers.logs.abandon(key);
        drop(buffers);
        self.settle();
    }

    /// Attempts whose end the coordinator does not know yet.
    pub(crate) fn ended(&self) -> Vec<AttemptKey> {
        self.lock().reports.ended()
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.lock().reports.len()
    }

    /// Resolves once every report and every log line is acknowledged.
    pub(crate) async fn flushed(&self) {
        let mut settled = self.settled.subscribe();
        let empty = |_: &(u64, u64)| {
            let buffers = self.lock();
            buffers.reports.len() == 0 && buffers.logs.is_empty()
        };
        // The sender lives as long as `self`.
        let _ = settled.wait_for(empty).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trainyard_proto::v1::{CheckpointSaved, Ended, Progress, Started};

    use super::*;

    fn reporter(outbox: &Arc<Outbox>, trial: u32) -> Reporter {
        let key = AttemptKey::new("job-1", trial, 0, 1, 0);
        Reporter::new(key, Arc::default(), outbox.clone())
    }

    #[tokio::test]
    async fn an_end_comes_after_the_log_lines_before_it() {
        let outbox = Arc::new(Outbox::new(100));
        let (first, second) = (reporter(&outbox, 1), reporter(&outbox, 2));
        // More than one batch.
        (0..1000).for_each(|line| first.info(&line.to_string()));
        first.report(Body::Started(Started::default())).await;
        first.report(Body::Ended(Ended::default())).await;
        second.report(Body::Ended(Ended::default())).await;
        let sent = |reports: Vec<Report>| -> Vec<(u64, u32)> {
            let sent = reports.iter().map(|r| (r.sequence, r.trial_id));
            sent.collect()
        };
        assert_eq!(sent(outbox.next_reports()), [(1, 1)]);
        let mut lines = 0;
        while lines < 1000 {
            assert_eq!(sent(outbox.next_reports()), []);
            lines += outbox.next_logs().unwrap().lines.len();
        }
        assert_eq!(lines, 1000);
        // Lines of another attempt hold up nothing.
        reporter(&outbox, 3).info("another");
        assert_eq!(sent(outbox.next_reports()), [(2, 1), (3, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_is_waited_for_and_then_used_at_once() {
        let outbox = Arc::new(Outbox::new(100));
        let one = reporter(&outbox, 1);
        (0..5000).for_each(|line| one.info(&line.to_string()));
        one.report(Body::Ended(Ended::default())).await;
        let send = || {
            let lines = std::iter::from_fn(|| outbox.next_logs());
            lines.map(|batch| batch.lines.len() as u64).sum::<u64>()
        };
        let mut sent = send();
        assert!(sent < 5000);
        // The end comes after its lines, and these wait for the coordinator.
        assert!(outbox.next_reports().is_empty());
        assert!(!outbox.is_due());
        while sent < 5000 {
            outbox.acknowledge(0, sent);
            assert!(outbox.is_due());
            sent += send();
        }
        assert!(outbox.is_due());
        assert_eq!(outbox.next_reports().len(), 1);
        assert!(!outbox.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn progress_and_log_lines_wait_for_more_but_not_for_long() {
        let outbox = Arc::new(Outbox::new(100));
        let one = reporter(&outbox, 1);
        one.report(Body::Started(Started::default())).await;
        one.info("a line");
        // The notice of what came; from then on only time passes.
        outbox.work().await;
        assert!(!outbox.is_due());
        let begun = Instant::now();
        while !outbox.is_due() {
            outbox.work().await;
        }
        assert_eq!(begun.elapsed(), LINGER);
        assert!(outbox.next_logs().is_some());
        assert!(outbox.is_due(), "the report has waited as long");
        assert_eq!(outbox.next_reports().len(), 1);
        assert!(!outbox.is_due());
        // What comes next waits by itself again.
        one.info("another");
        assert!(!outbox.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn what_something_waits_for_goes_at_once_with_all_that_came_before() {
        for body in [
            Body::Ended(Ended::default()),
            Body::Checkpoint(CheckpointSaved::default()),
        ] {
            let outbox = Arc::new(Outbox::new(100));
            let one = reporter(&outbox, 1);
            one.report(Body::Started(Started::default())).await;
            one.report(Body::Progress(Progress::default())).await;
            assert!(!outbox.is_due());
            one.report(body).await;
            assert!(outbox.is_due());
            assert_eq!(outbox.next_reports().len(), 3);
        }
        // So does a whole message of reports, and what a new connection has to tell again.
        let outbox = Arc::new(Outbox::new(1000));
        let one = reporter(&outbox, 1);
        for _ in 0..MAX_REPORTS_PER_BATCH {
            assert!(!outbox.is_due());
            one.report(Body::Started(Started::default())).await;
        }
        assert!(outbox.is_due());
        assert_eq!(outbox.next_reports().len(), MAX_REPORTS_PER_BATCH);
        assert!(!outbox.is_due());
        outbox.reconnected();
        assert!(outbox.is_due());
    }
}
