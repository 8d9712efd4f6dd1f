//! How one attempt speaks: the handle by which it reaches the shared buffers.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use trainyard_proto::v1::report::Body;

use super::reports::Pushed;
use super::{Level, Outbox, bounds};
use crate::attempt::{Activity, AttemptKey, Mask, Stop, StopSignal};

/// What an attempt may say beyond a full buffer once it was told to stop, besides its end: the point that
/// it has reached and its last checkpoints are a handful; a program that goes on printing until it is
/// killed is not waited for.
const AFTER_STOP: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) key: AttemptKey,
    pub(crate) stop: Arc<StopSignal>,
    /// What the heartbeat says of its progress.
    pub(crate) activity: Arc<Activity>,
    outbox: Arc<Outbox>,
    /// Reports that were taken although there was no room.
    beyond: Arc<AtomicUsize>,
    /// Whether somebody was told of a report that was left out since the coordinator would refuse it.
    told: Arc<AtomicBool>,
    /// What nobody is to see in log lines.
    mask: Arc<OnceLock<Mask>>,
}

/// Tells when there may be room again for what was refused.
#[derive(Debug)]
pub(crate) struct Room(watch::Receiver<(u64, u64)>);

impl Room {
    /// Resolves once something was acknowledged or taken back since the last [`Reporter::offer`].
    pub(crate) async fn made(&mut self) {
        // The sender lives as long as the outbox.
        let _ = self.0.changed().await;
    }
}

impl Reporter {
    pub(crate) fn new(key: AttemptKey, stop: Arc<StopSignal>, outbox: Arc<Outbox>) -> Self {
        Self {
            key,
            stop,
            activity: Arc::default(),
            outbox,
            beyond: Arc::default(),
            told: Arc::default(),
            mask: Arc::default(),
        }
    }

    pub(crate) fn room(&self) -> Room {
        Room(self.outbox.settled.subscribe())
    }

    /// Hands a report over if there is room. One that the coordinator would refuse is left out, which is told
    /// once. An attempt that was told to stop does not wait for room: the
    /// little that it still has to say is taken in any case.
    pub(crate) fn offer(&self, body: &Body, room: &mut Room) -> Pushed {
        room.0.mark_unchanged();
        if let Some(reason) = bounds::refusal(body) {
            if !self.told.swap(true, Ordering::Relaxed) {
                self.warn(&format!("a report is left out: {reason}"));
            }
            return Pushed::Thinned;
        }
        let Some(stop) = self.stop.get() else {
            return self.push(body, false);
        };
        if stop == Stop::Abandoned {
            return Pushed::Thinned;
        }
        match self.push(body, false) {
            Pushed::Full if matches!(body, Body::Ended(_)) => self.push(body, true),
            Pushed::Full => {
                if self.beyond.fetch_add(1, Ordering::Relaxed) >= AFTER_STOP {
                    return Pushed::Thinned;
                }
                self.push(body, true)
            }
            pushed => pushed,
        }
    }

    fn push(&self, body: &Body, beyond: bool) -> Pushed {
        let report = self.key.report(now_ms(), body.clone());
        self.outbox.push(report, beyond)
    }

    /// Hands a report over, waiting for room where it must not be left out. Gives the ticket to wait
    /// on, or nothing when it was left out or the attempt was abandoned meanwhile.
    pub(crate) async fn report(&self, body: Body) -> Option<u64> {
        let body = bounds::shown(body);
        let mut room = self.room();
        loop {
            match self.offer(&body, &mut room) {
                Pushed::Taken(ticket) => return Some(ticket),
                Pushed::Thinned => return None,
                Pushed::Full => {}
            }
            tokio::select! {
                () = room.made() => {}
                // It is not waited for then.
                () = self.stop.requested() => {}
            }
        }
    }

    /// Takes back a report that was never handed out. False: it was, and may be known.
    pub(crate) fn withdraw(&self, ticket: u64) -> bool {
        self.outbox.withdraw(ticket)
    }

    /// Waits until a report is durable at the coordinator. False: the attempt was told to stop first.
    pub(crate) async fn acknowledged(&self, ticket: u64) -> bool {
        let mut settled = self.outbox.settled.subscribe();
        tokio::select! {
            biased;
            () = self.stop.requested() => false,
            result = settled.wait_for(|(acknowledged, _)| *acknowledged >= ticket) => result.is_ok(),
        }
    }

    /// Hides texts from now on in all that is logged, whoever logs it. Said once.
    pub(crate) fn set_mask(&self, mask: Mask) {
        let first = self.mask.set(mask).is_ok();
        debug_assert!(first, "an attempt's secrets are read once");
    }

    /// What nobody is to see.
    pub(crate) fn mask(&self) -> &Mask {
        static NONE: Mask = Mask::none();
        self.mask.get().unwrap_or(&NONE)
    }

    /// A text without what nobody is to see.
    pub(crate) fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.mask().hide(text)
    }

    pub(crate) fn info(&self, text: &str) {
        self.log(Level::Info, text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.log(Level::Warn, text);
    }

    /// Adds a line to the trial's log.
    pub(crate) fn log(&self, level: Level, text: &str) {
        if !self.stop.is_abandoned() {
            let text = self.masked(text);
            let mut buffers = self.outbox.lock();
            buffers.logs.push(&self.key, now_ms(), level, &text);
            buffers.came(false);
            drop(buffers);
            self.outbox.work.notify_one();
        }
    }
}

/// Unix milliseconds: what reports and log lines are stamped with.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use trainyard_proto::v1::{Ended, Progress};

    use super::*;

    fn epoch() -> Body {
        Body::Progress(Progress {
            end_of_epoch: true,
            ..Progress::default()
        })
    }

    fn full(capacity: usize) -> (Arc<Outbox>, Reporter) {
        let outbox = Arc::new(Outbox::new(capacity));
        let key = AttemptKey::new("job-1", 1, 0, 1, 0);
        let reporter = Reporter::new(key, Arc::default(), outbox.clone());
        for _ in 0..capacity {
            let taken = reporter.report(epoch()).now_or_never();
            assert!(taken.is_some_and(|ticket| ticket.is_some()));
        }
        (outbox, reporter)
    }

    #[tokio::test]
    async fn who_is_told_to_stop_does_not_wait_for_room() {
        for stop in [Stop::Checkpoint, Stop::Now] {
            let (outbox, reporter) = full(8);
            let mut waits = std::pin::pin!(reporter.report(epoch()));
            assert!(waits.as_mut().now_or_never().is_none(), "there is no room");
            reporter.stop.request(stop);
            assert!(waits.now_or_never().is_some_and(|ticket| ticket.is_some()));
            // Nor does what comes after it, but not without bounds.
            for _ in 0..10 * AFTER_STOP {
                assert!(reporter.report(epoch()).now_or_never().is_some());
            }
            assert_eq!(outbox.unacknowledged(), 8 + AFTER_STOP);
            let end = reporter.report(Body::Ended(Ended::default()));
            assert!(end.now_or_never().is_some_and(|ticket| ticket.is_some()));
        }
    }

    #[tokio::test]
    async fn what_the_coordinator_would_refuse_is_left_out_and_told_once() {
        let (outbox, reporter) = full(0);
        for step in [u64::MAX, u64::MAX - 1] {
            let body = Body::Progress(Progress {
                step,
                ..Progress::default()
            });
            assert_eq!(reporter.report(body).now_or_never(), Some(None));
        }
        assert_eq!(outbox.unacknowledged(), 0);
        let lines = outbox.next_logs().unwrap().lines;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].text.contains("step is 18446744073709551615"));
    }

    #[tokio::test]
    async fn what_is_taken_back_makes_room() {
        let (outbox, reporter) = full(8);
        let mut waits = std::pin::pin!(reporter.report(epoch()));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(reporter.withdraw(5));
        assert!(waits.now_or_never().is_some_and(|ticket| ticket.is_some()));
        assert_eq!(outbox.next_reports().len(), 8);
        assert!(!reporter.withdraw(6), "it was handed out");
    }

    #[tokio::test]
    async fn an_abandoned_attempt_says_nothing_and_waits_for_nothing() {
        let (outbox, reporter) = full(8);
        let mut waits = std::pin::pin!(reporter.report(epoch()));
        assert!(waits.as_mut().now_or_never().is_none());
        reporter.stop.request(Stop::Abandoned);
        assert_eq!(waits.now_or_never(), Some(None));
        assert_eq!(outbox.unacknowledged(), 8);
    }
}
