//! PURE: how long to wait before the next try: doubling, capped, with jitter from a key, so that a
//! thousand workers do not come back at the same moment.

use std::time::Duration;

use trainyard_common::rng::Key;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait unless the lease asks for a shorter one.
pub(crate) const CAP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Backoff {
    key: Key,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            cap: CAP,
            tries: 0,
        }
    }

    /// Connected: the next failure starts anew. Within a lease there is time for several tries.
    pub(crate) fn reset(&mut self, lease: Duration) {
        self.tries = 0;
        self.cap = (lease / 4).clamp(FIRST, CAP);
    }

    /// The wait before the next try: between half of and the whole of the doubled time.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.tries.min(16)).min(self.cap);
        let jitter = self.key.unit(u64::from(self.tries));
        self.tries = self.tries.saturating_add(1);
        doubled.mul_f64(0.5 + 0.5 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Key::new(1));
        for tries in 0..40 {
            let full = FIRST.saturating_mul(1 << tries.min(16)).min(CAP);
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{tries}: {wait:?}");
        }
    }

    #[test]
    fn a_short_lease_shortens_the_cap() {
        let mut backoff = Backoff::new(Key::new(1));
        backoff.reset(Duration::from_millis(800));
        (0..20).for_each(|_| assert!(backoff.next() <= Duration::from_millis(200)));
        backoff.reset(Duration::from_secs(60));
        assert!((0..20).map(|_| backoff.next()).max().unwrap() > Duration::from_secs(1));
    }
}
