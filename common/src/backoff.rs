//! PURE: how long to wait before the next try: doubling, capped, with jitter from a key, so that a
//! thousand clients do not come back at the same moment.

use std::time::Duration;

use crate::rng::Key;

/// Doublings beyond this change nothing: the cap was reached long before.
const MAX_DOUBLINGS: u32 = 16;

/// The waits between tries of one client.
#[derive(Debug, Clone)]
pub struct Backoff {
    key: Key,
    first: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits from `first` up to `cap`, with the jitter of `key`.
    pub fn new(key: Key, first: Duration, cap: Duration) -> Self {
        Self {
            key,
            first,
            cap: cap.max(first),
            tries: 0,
        }
    }

    /// It went well: the next failure starts anew.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// The longest wait from now on; never shorter than the first.
    pub fn set_cap(&mut self, cap: Duration) {
        self.cap = cap.max(self.first);
    }

    /// The wait before the next try: between half of and the whole of the doubled time.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << self.tries.min(MAX_DOUBLINGS))
            .min(self.cap);
        let jitter = self.key.unit(u64::from(self.tries));
        self.tries = self.tries.saturating_add(1);
        doubled.mul_f64(0.5 + 0.5 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(2);

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Key::new(1), FIRST, CAP);
        for tries in 0..40 {
            let full = FIRST.saturating_mul(1 << tries.min(MAX_DOUBLINGS)).min(CAP);
            let wait = backoff.next_wait();
            assert!(wait >= full / 2 && wait <= full, "{tries}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }

    #[test]
    fn a_shorter_cap_shortens_the_waits() {
        let mut backoff = Backoff::new(Key::new(1), FIRST, CAP);
        backoff.set_cap(Duration::from_millis(200));
        (0..20).for_each(|_| assert!(backoff.next_wait() <= Duration::from_millis(200)));
        backoff.set_cap(Duration::ZERO);
        assert!(backoff.next_wait() <= FIRST);
        backoff.set_cap(CAP);
        assert!((0..20).map(|_| backoff.next_wait()).max().unwrap() > Duration::from_secs(1));
    }
}
