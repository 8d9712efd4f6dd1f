//! The one place where the coordinator reads a clock.
//!
//! The wall clock is read once, when the process starts; from then on time is the steady clock's
//! (tokio's, so that tests can pause it) and never goes back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Unix milliseconds that never go back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    origin_unix_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // A wall clock before 1970 counts as 1970: times are for people; order comes from `origin`.
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            origin: Instant::now(),
            origin_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.origin_unix_ms.saturating_add(passed)
    }

    /// The instant at which [`Clock::now_ms`] reaches `unix_ms`; at the earliest `origin`.
    pub(crate) fn instant(&self, unix_ms: u64) -> Instant {
        // A far future (a year) is as good as never and cannot overflow an `Instant`.
        const FAR_MS: u64 = 365 * 24 * 3600 * 1000;
        let after = unix_ms.saturating_sub(self.origin_unix_ms).min(FAR_MS);
        self.origin + Duration::from_millis(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_unix_times_agree() {
        let clock = Clock::start();
        let before = clock.now_ms();
        let step = clock.instant(before + 1_500) - clock.instant(before);
        assert_eq!(step, Duration::from_millis(1_500));
        assert!(clock.instant(0) <= Instant::now());
        assert!(clock.instant(u64::MAX) > Instant::now());
        assert!(clock.now_ms() >= before);
    }
}
