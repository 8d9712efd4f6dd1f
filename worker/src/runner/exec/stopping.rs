//! How a program is told to stop, and what becomes of one that does not.
//!
//! Who has opened the channel is told there and has its grace before a signal comes: it may be writing a checkpoint.
//! Who has not gets SIGTERM at once. SIGKILL, in the end, gets everybody.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;

use super::limits::{Exceeded, Limits};
use super::process_group::ProcessGroup;
use super::strays::Strays;
use super::telling::Telling;
use crate::attempt::Stop;
use crate::outbox::Reporter;

/// A program without the channel that has reported the last epoch that it was to train gets so long to save what
/// it wants and to end by itself.
const UNTIL_GRACE: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL for a program that has had its grace before.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// The same for a program whose end nobody waits for.
const ABANDON_GRACE: Duration = Duration::from_secs(1);

/// Why a program is to stop, the more urgent the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It has reported the epoch until which it was to train.
    Rung,
    /// It is to make a checkpoint and end: the trial goes on later.
    Leave,
    Cancel,
}

impl From<Stop> for Reason {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Checkpoint => Self::Leave,
            Stop::Now | Stop::Abandoned => Self::Cancel,
        }
    }
}

/// What an attempt may be stopped by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping<'a> {
    pub(super) reporter: &'a Reporter,
    pub(super) telling: &'a Telling,
    /// `entrypoint.stop_grace`.
    pub(super) grace: Duration,
    pub(super) limits: &'a Limits,
    pub(super) strays: &'a Strays,
}

/// How a program has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: io::Result<ExitStatus>,
    /// The stop by which it ended.
    pub(super) stop: Option<Stop>,
    /// The limit that it had reached before.
    pub(super) exceeded: Option<Exceeded>,
}

impl Stopping<'_> {
    /// Waits for the program's end, which it is brought to once it is to stop or has reached a limit.
    pub(super) async fn wait(&self, child: &mut Child, group: &mut ProcessGroup) -> Ended {
        let stop = &self.reporter.stop;
        let exceeded = tokio::select! {
            biased;
            status = group.wait(child) => {
                // Who is not told over the channel does not know that it is to stop.
                let told = self.telling.has_channel();
                let stop = stop.get().filter(|_| told);
                return Ended { status, stop, exceeded: None };
            }
            () = self.overdue() => None,
            exceeded = self.limits.exceeded(self.strays) => Some(exceeded),
        };
        if let Some(exceeded) = exceeded.filter(Exceeded::is_urgent) {
            return self.kill(child, group, exceeded).await;
        }
        let why = match (exceeded, stop.get()) {
            (Some(exceeded), _) => &*exceeded.told(),
            (None, Some(_)) => "told to stop",
            (None, None) if self.telling.is_reached() => "it has trained as far as it was to",
            (None, None) => "a checkpoint could not be saved",
        };
        self.reporter
            .info(&format!("{why}: the program gets SIGTERM"));
        group.signal(libc::SIGTERM);
        // A program that is suspended gets it only once it goes on.
        group.signal(libc::SIGCONT);
        let abandoned = async {
            stop.reached(Stop::Abandoned).await;
            tokio::time::sleep(ABANDON_GRACE).await;
        };
        let ended = tokio::select! {
            status = group.wait(child) => Some(status),
            () = tokio::time::sleep(self.after_term()) => None,
            () = abandoned => None,
            exceeded = self.limits.too_much(self.strays) => {
                return self.kill(child, group, exceeded).await;
            }
        };
        let status = match ended {
            Some(status) => status,
            None => {
                self.reporter.warn("the program did not end: SIGKILL");
                group.signal(libc::SIGKILL);
                group.wait(child).await
            }
        };
        Ended {
            status,
            stop: stop.get(),
            exceeded,
        }
    }

    /// Ends a program that would take more while it is asked to end.
    async fn kill(&self, child: &mut Child, group: &mut ProcessGroup, exceeded: Exceeded) -> Ended {
        self.reporter.warn(&format!("{}: SIGKILL", exceeded.told()));
        group.signal(libc::SIGKILL);
        Ended {
            status: group.wait(child).await,
            stop: self.reporter.stop.get(),
            exceeded: Some(exceeded),
        }
    }

    /// Resolves once the program is to get SIGTERM.
    async fn overdue(&self) {
        let stop = &self.reporter.stop;
        let rung = async {
            self.telling.reached().await;
            let grace = match self.telling.has_channel() {
                true => self.grace,
                false => UNTIL_GRACE,
            };
            tokio::time::sleep(grace).await;
        };
        let leave = async {
            stop.requested().await;
            if self.telling.has_channel() {
                tokio::time::sleep(self.grace).await;
            }
        };
        tokio::select! {
            () = rung => {}
            () = leave => {}
            () = stop.reached(Stop::Now) => {}
            () = self.telling.failed() => {}
        }
    }

    fn after_term(&self) -> Duration {
        let cancelled = self.reporter.stop.get() >= Some(Stop::Now);
        match self.telling.has_channel() && !cancelled {
            true => TERM_GRACE.min(self.grace),
            false => self.grace,
        }
    }
}
