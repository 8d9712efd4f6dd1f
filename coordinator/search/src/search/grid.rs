//! Every configuration once, in the order of the spec, the last hyperparameter fastest.

use std::collections::BTreeSet;

use trainyard_common::space::{Grid, SearchSpace};
use trainyard_common::spec::{Params, SpecError};

/// Positions of hyperparameters that are looked at for the next configuration of a grid that is too large to be
/// counted: some milliseconds. Where constraints forbid more in a row the search ends there, since nobody knows how
/// far the next one is.
const MAX_PASSED: u64 = 100_000;

/// To pass so many, about.
const WALK_MS: u64 = 5;

#[derive(Debug, Clone)]
pub(super) struct GridSearch {
    space: SearchSpace,
    source: Source,
    /// Fingerprints of the points that were handed out before.
    given: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Source {
    /// The number of the next in the space's list.
    Listed(u64),
    Walked(Box<Grid>),
}

impl GridSearch {
    pub(super) fn new(space: SearchSpace, given: Vec<String>) -> Result<Self, Vec<SpecError>> {
        let grid = space.grid()?;
        let source = if space.is_constrained() && space.listed().is_some() {
            Source::Listed(0)
        } else {
            // What was counted ends.
            let most = space.grid_len().map_or(MAX_PASSED, |_| u64::MAX);
            Source::Walked(Box::new(grid.within(most)))
        };
        Ok(Self {
            space,
            source,
            given: given.into_iter().collect(),
        })
    }

    /// As far as constraints may forbid many in a row.
    pub(super) fn effort_ms(&self) -> u64 {
        match self.source {
            Source::Walked(_) if self.space.is_constrained() => WALK_MS,
            Source::Walked(_) | Source::Listed(_) => 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Params> {
        loop {
            let params = self.advance()?;
            if self.given.is_empty() || !self.given.contains(&self.space.fingerprint(&params)) {
                return Some(params);
            }
        }
    }

    fn advance(&mut self) -> Option<Params> {
        match &mut self.source {
            Source::Walked(grid) => grid.next(),
            Source::Listed(next) => {
                let found = self.space.listed()?.get(*next)?;
                *next += 1;
                Some(found)
            }
        }
    }
}
