//! Random and quasi-random search.
//!
//! Trial t's configuration is drawn with the key (seed, t, try), or is the next point of a sequence. In a
//! finite space a configuration is not proposed twice, and the search ends when all have been proposed.
//! Where there is nothing to choose, trials differ by their own seeds alone and there are as many as asked
//! for.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Params;

use super::sequence::Sequence;

/// Draws before the untried configurations are listed instead.
const MAX_TRIES: u64 = 64;

/// Spaces up to this size are listed when draws keep repeating; in larger ones so many repeated
/// draws mean a very uneven distribution, and the repetition is let through.
const MAX_LISTED: u128 = 1_000_000;

#[derive(Debug, Clone)]
pub struct RandomSearch {
    space: SearchSpace,
    key: Key,
    max_trials: u32,
    suggested: u32,
    /// Where the points come from, unless they are drawn, and how many of it were used.
    sequence: Option<Sequence>,
    used: u64,
    /// Size of the space; `None` where there is nothing to repeat or to run out of.
    finite: Option<u128>,
    /// Fingerprints of what was proposed, in a finite space.
    tried: BTreeSet<String>,
}

impl RandomSearch {
    pub(super) fn new(
        space: SearchSpace,
        seed: u64,
        max_trials: u32,
        sequence: Option<Sequence>,
    ) -> Self {
        Self {
            finite: space.cardinality().filter(|&size| size > 1),
            key: Key::new(seed).named("search"),
            space,
            max_trials,
            suggested: 0,
            sequence,
            used: 0,
            tried: BTreeSet::new(),
        }
    }

    pub(super) fn expected(&self) -> u32 {
        let size = self
            .finite
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(u32::MAX);
        self.max_trials.min(size)
    }

    pub(super) fn extend(&mut self, trials: u32) {
        self.max_trials = self.max_trials.saturating_add(trials);
    }

    /// How many trials can be added; `None`: any number.
    pub(super) fn room(&self) -> Option<u32> {
        let size = self.finite?;
        let left = size.saturating_sub(u128::from(self.max_trials));
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    pub(super) fn next(&mut self, trial: TrialId) -> Option<Params> {
        if self.suggested >= self.max_trials {
            return None;
        }
        let key = self.key.with(u64::from(trial.0));
        let params = match self.finite {
            None => self.draw(key, 0),
            Some(size) => self.untried(key, size)?,
        };
        self.suggested += 1;
        Some(params)
    }

    /// Another point with each try.
    fn draw(&mut self, key: Key, attempt: u64) -> Params {
        let Some(sequence) = &self.sequence else {
            return self.space.sample(key.with(attempt));
        };
        let index = self.used;
        self.used += 1;
        self.space.at(|axis| sequence.at(index, axis))
    }

    fn untried(&mut self, key: Key, size: u128) -> Option<Params> {
        let left = size.saturating_sub(self.tried.len() as u128);
        if left == 0 {
            return None;
        }
        for attempt in 0..MAX_TRIES {
            let params = self.draw(key, attempt);
            if self.tried.insert(self.space.fingerprint(&params)) {
                return Some(params);
            }
        }
        if size > MAX_LISTED {
            return Some(self.draw(key, MAX_TRIES));
        }
        // A finite space has the same configurations as its grid.
        let skip = key.with(MAX_TRIES).below(0, left as u64) as usize;
        let params = self
            .space
            .grid()
            .ok()?
            .filter(|params| !self.tried.contains(&self.space.fingerprint(params)))
            .nth(skip)?;
        self.tried.insert(self.space.fingerprint(&params));
        Some(params)
    }
}
