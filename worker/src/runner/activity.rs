//! What an attempt shows of its progress: the newest step, and a count of everything that it does.
//!
//! Written by whatever runs, read by the heartbeat. The coordinator tells an attempt that works slowly
//! from one that hangs by it.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Activity {
    step: AtomicU64,
    signs: AtomicU64,
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

    /// The newest step, and the count of signs.
    pub(crate) fn read(&self) -> (u64, u64) {
        let step = self.step.load(Ordering::Relaxed);
        (step, self.signs.load(Ordering::Relaxed))
    }
}
