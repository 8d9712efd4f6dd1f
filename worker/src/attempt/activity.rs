//! What an attempt shows of its progress: the newest step, and a count of everything that it does.
//!
//! Written by whatever runs, read by the heartbeat. The coordinator tells an attempt that works slowly
//! from one that hangs by it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Activity {
    step: AtomicU64,
    signs: AtomicU64,
    waits: AtomicBool,
}

impl Activity {
    /// It is still doing something.
    pub(crate) fn sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// It has come to this step.
    pub(crate) fn reached(&self, step: u64) {
        self.step.fetch_max(step, Ordering::Relaxed);
        self.sign();
    }

    /// Whether it waits for its slots: no progress is expected of it then, and every look counts as a sign.
    pub(crate) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// The newest step, and the count of signs.
    pub(crate) fn read(&self) -> (u64, u64) {
        if self.waits.load(Ordering::Relaxed) {
            self.sign();
        }
        let step = self.step.load(Ordering::Relaxed);
        (step, self.signs.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_slot_does_not_hang() {
        let activity = Activity::default();
        activity.reached(3);
        assert_eq!(activity.read(), (3, 1));
        assert_eq!(activity.read(), (3, 1));
        activity.waits(true);
        assert_eq!([activity.read(), activity.read()], [(3, 2), (3, 3)]);
        activity.waits(false);
        assert_eq!(activity.read(), (3, 3));
    }
}
