//! Random search.
//!
//! Trial t's configuration is drawn with the key (seed, t, try). In a finite space a configuration is
//! not proposed twice, and the search ends when all have been proposed. Where there is nothing to
//! choose, trials differ by their own seeds alone and there are as many as asked for.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Params;

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
    /// Size of the space; `None` where there is nothing to repeat or to run out of.
    finite: Option<u128>,
    /// Fingerprints of what was proposed, in a finite space.
    tried: BTreeSet<String>,
}

impl RandomSearch {
    pub(super) fn new(space: SearchSpace, seed: u64, max_trials: u32) -> Self {
        Self {
            finite: space.cardinality().filter(|&size| size > 1),
            key: Key::new(seed).named("search"),
            space,
            max_trials,
            suggested: 0,
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
            None => self.space.sample(key.with(0)),
            Some(size) => self.untried(key, size)?,
        };
        self.suggested += 1;
        Some(params)
    }

    fn untried(&mut self, key: Key, size: u128) -> Option<Params> {
        let left = size.saturating_sub(self.tried.len() as u128);
        if left == 0 {
            return None;
        }
        for attempt in 0..MAX_TRIES {
            let params = self.space.sample(key.with(attempt));
            if self.tried.insert(self.space.fingerprint(&params)) {
                return Some(params);
            }
        }
        if size > MAX_LISTED {
            return Some(self.space.sample(key.with(MAX_TRIES)));
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
