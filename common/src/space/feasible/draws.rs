//! Random numbers of one key, one after another, for whoever needs an unknown number of them.

use crate::rng::Key;

/// Random numbers one after another.
#[derive(Debug)]
pub(super) struct Draws {
    key: Key,
    next: u64,
}

impl Draws {
    pub(super) fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.next += 1;
        self.key.unit(self.next)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.next += 1;
        self.key.below(self.next, bound as u64) as usize
    }
}
