//! Where rungs lie, and what one of an asynchronous search holds.

use std::collections::BTreeSet;

use super::place::Place;

/// Resources min, min * eta, min * eta^2... below `max`, and `max`. What the spec's checks refuse is taken
/// for the nearest that they accept.
pub(super) fn ladder(min: u64, max: u64, eta: u32) -> Vec<u64> {
    let (eta, max) = (u64::from(eta.max(2)), max.max(1));
    let mut resource = min.clamp(1, max);
    let mut rungs = Vec::new();
    while resource < max {
        rungs.push(resource);
        resource = resource.saturating_mul(eta);
    }
    rungs.push(max);
    rungs
}

/// The results of one rung, the best of them apart.
#[derive(Debug, Clone, Default)]
pub(super) struct Rung {
    best: BTreeSet<Place>,
    rest: BTreeSet<Place>,
    /// Among the best, waiting, not promoted.
    ready: BTreeSet<Place>,
}

impl Rung {
    pub(super) fn results(&self) -> usize {
        self.best.len() + self.rest.len()
    }

    pub(super) fn best(&self) -> usize {
        self.best.len()
    }

    /// Whether a result is among the best.
    pub(super) fn is_best(&self, place: Place) -> bool {
        self.best.contains(&place)
    }

    /// The best that waits and was not promoted.
    pub(super) fn first_ready(&self) -> Option<Place> {
        self.ready.first().copied()
    }

    pub(super) fn take_ready(&mut self, place: Place) -> bool {
        self.ready.remove(&place)
    }

    /// Takes in a result. The best are floor(n / eta) of the n there are, at least `least`. `waits`: it may
    /// be promoted once it is among the best.
    pub(super) fn insert(
        &mut self,
        place: Place,
        eta: usize,
        least: usize,
        waits: impl Fn(Place) -> bool,
    ) {
        // Among the best if it beats the last of them: the others are sorted out below.
        match self.best.last() {
            Some(last) if place < *last => {
                self.best.insert(place);
                if waits(place) {
                    self.ready.insert(place);
                }
            }
            _ => {
                self.rest.insert(place);
            }
        }
        let keep = (self.results() / eta).max(least);
        while self.best.len() > keep
            && let Some(last) = self.best.pop_last()
        {
            self.ready.remove(&last);
            self.rest.insert(last);
        }
        while self.best.len() < keep
            && let Some(first) = self.rest.pop_first()
        {
            if waits(first) {
                self.ready.insert(first);
            }
            self.best.insert(first);
        }
    }
}
