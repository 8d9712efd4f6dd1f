//! What is known of a running rank's progress: how long it has been quiet, how fast it steps.
//!
//! Nothing here is stored: a new leader begins to count afresh.

use super::attempt::RankRef;

/// The shortest time without progress after which an attempt counts as hung, where the spec sets none.
const HANG_FLOOR_MS: u64 = 600_000;

/// Where the spec sets none: so many times the longest quiet time so far.
const HANG_FACTOR: u64 = 10;

/// Signs of progress after which there is a longest quiet time that means something.
const HANG_SIGNS: u32 = 2;

/// What was measured longer ago than this counts half.
const RATE_WINDOW_MS: u64 = 300_000;

/// Steps are counted for so long before anybody is called slow.
const SLOW_AFTER_MS: u64 = 30_000;

/// A running rank's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    pub rank: RankRef,
    /// The newest step.
    pub step: u64,
    /// Grows with every sign of progress: steps, validation batches, lines that a program prints.
    pub signs: u64,
}

/// What is known of one running rank's progress.
#[derive(Debug, Clone, Default)]
pub(in crate::cluster) struct Progress {
    /// The worker's count of signs of progress.
    signs: u64,
    step: u64,
    /// How often `signs` was seen to grow.
    grown: u32,
    /// Heartbeats came for so long without its growing.
    pub(in crate::cluster) quiet_ms: u64,
    longest_quiet_ms: u64,
    /// Steps in the window, and its length.
    steps: f64,
    window_ms: u64,
}

impl Progress {
    /// Takes in what a heartbeat says, `elapsed_ms` after the one before.
    pub(in crate::cluster) fn hear(&mut self, pulse: &Pulse, elapsed_ms: u64) {
        self.quiet_ms += elapsed_ms;
        if pulse.signs > self.signs {
            if self.grown > 0 {
                self.longest_quiet_ms = self.longest_quiet_ms.max(self.quiet_ms);
            }
            self.grown = self.grown.saturating_add(1);
            self.quiet_ms = 0;
            self.signs = pulse.signs;
        }
        if self.grown > 1 {
            self.window_ms += elapsed_ms;
            self.steps += pulse.step.saturating_sub(self.step) as f64;
        }
        self.step = self.step.max(pulse.step);
        if self.window_ms > RATE_WINDOW_MS {
            self.window_ms /= 2;
            self.steps /= 2.0;
        }
    }

    /// How long it may be quiet; `None`: as long as it likes.
    pub(in crate::cluster) fn patience_ms(&self, hang_timeout: Option<f64>) -> Option<u64> {
        match hang_timeout {
            Some(seconds) if seconds > 0.0 => Some((seconds * 1_000.0) as u64),
            Some(_) => None,
            None if self.grown < HANG_SIGNS => None,
            None => Some(HANG_FLOOR_MS.max(self.longest_quiet_ms.saturating_mul(HANG_FACTOR))),
        }
    }

    /// Steps a second, once they were measured for long enough.
    pub(in crate::cluster) fn rate(&self) -> Option<f64> {
        (self.window_ms >= SLOW_AFTER_MS && self.steps > 0.0)
            .then(|| self.steps * 1_000.0 / self.window_ms as f64)
    }
}
