//! Random and quasi-random search.
//!
//! Trial t's configuration is drawn with the key (seed, t, try), or is the next point of a sequence. In a
//! finite space a configuration is not proposed twice, and the search ends when all have been proposed.
//! Where there is nothing to choose, trials differ by their own seeds alone and there are as many as asked
//! for.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Params;

use super::axes::{Axes, Kind};
use super::sequence::Sequence;

/// Draws that constraints may refuse before it is looked near a configuration that is known to meet them, and
/// tries there.
const MAX_REFUSED: u64 = 2_000;

/// How near, as a power of 1/2 of a range.
const NARROWEST: f64 = 30.0;

/// Draws before the untried configurations are listed instead.
const MAX_TRIES: u64 = 64;

/// Spaces up to this size are listed when draws keep repeating; in larger ones so many repeated
/// draws mean a very uneven distribution, and the repetition is let through.
const MAX_LISTED: u128 = 1_000_000;

#[derive(Debug, Clone)]
pub(super) struct RandomSearch {
    space: SearchSpace,
    key: Key,
    /// Where the points come from, unless they are drawn, and how many of it were used.
    sequence: Option<Sequence>,
    used: u64,
    /// Size of the space; `None` where there is nothing to repeat or to run out of.
    finite: Option<u128>,
    /// Fingerprints of what was proposed, in a finite space.
    tried: BTreeSet<String>,
    /// A configuration that meets the constraints, once draws did not find one; with its axes.
    known: OnceLock<Option<(Axes, Params)>>,
}

impl RandomSearch {
    /// `given`: fingerprints of configurations that are proposed by others.
    pub(super) fn new(
        space: SearchSpace,
        seed: u64,
        sequence: Option<Sequence>,
        given: Vec<String>,
    ) -> Self {
        Self {
            finite: space.cardinality().filter(|&size| size > 1),
            key: Key::new(seed).named("search"),
            space,
            sequence,
            used: 0,
            tried: given.into_iter().collect(),
            known: OnceLock::new(),
        }
    }

    pub(super) fn next(&mut self, trial: TrialId) -> Option<Params> {
        let key = self.key.with(u64::from(trial.0));
        match self.finite {
            None => self.allowed(key),
            Some(size) => self.untried(key, size),
        }
    }

    /// Notes a configuration that others proposed. False: it was proposed before, in a finite space.
    pub(super) fn take(&mut self, params: &Params) -> bool {
        self.finite.is_none() || self.tried.insert(self.space.fingerprint(params))
    }

    /// The first draw that meets the constraints; `None` after very many that do not.
    fn allowed(&mut self, key: Key) -> Option<Params> {
        if !self.space.is_constrained() {
            return Some(self.draw(key, 0));
        }
        let drawn = (0..MAX_REFUSED).find_map(|attempt| {
            let params = self.draw(key, attempt);
            self.space.allows(&params).then_some(params)
        });
        drawn.or_else(|| self.near_allowed(key))
    }

    /// Where hardly any configuration meets the constraints: one between a draw and a configuration that does,
    /// the nearer to it the more are refused; that one itself if nothing else is left and it was not proposed.
    fn near_allowed(&mut self, key: Key) -> Option<Params> {
        let space = &self.space;
        let known = self.known.get_or_init(|| {
            let known = space.first_allowed()?;
            Some((Axes::new(space.clone()), known))
        });
        let (axes, known) = known.as_ref()?;
        let anchor = axes.encode(known)?;
        let between = (0..MAX_REFUSED).map(|attempt| {
            let key = key.named("near").with(attempt);
            let drawn = axes.draw(key);
            let width = libm::exp2(-NARROWEST * key.unit(NARROWEST as u64 + attempt));
            let mut point: Vec<f64> = (0u64..)
                .zip(drawn.iter().zip(&anchor).zip(axes.axes()))
                .map(|(axis, ((drawn, anchor), of))| {
                    let stays = key.with(axis).unit(0) > width;
                    match of.kind {
                        _ if anchor.is_nan() || drawn.is_nan() => *drawn,
                        Kind::Unordered { .. } if stays => *anchor,
                        Kind::Unordered { .. } => *drawn,
                        _ => anchor + width * (drawn - anchor),
                    }
                })
                .collect();
            axes.settle(&mut point);
            axes.decode(&point)
        });
        let is_new = |params: &Params| space.allows(params) && params != known;
        let found = between.into_iter().find(is_new);
        let known_is_new = self.tried.insert(space.fingerprint(known));
        found.or_else(|| known_is_new.then(|| known.clone()))
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
            if !self.space.allows(&params) {
                continue;
            }
            if self.tried.insert(self.space.fingerprint(&params)) {
                return Some(params);
            }
        }
        if size > MAX_LISTED {
            return self.allowed(key.with(MAX_TRIES));
        }
        // A finite space has the same configurations as its grid.
        let skip = key.with(MAX_TRIES).below(0, left as u64) as usize;
        let params = self
            .space
            .finite()?
            .filter(|params| !self.tried.contains(&self.space.fingerprint(params)))
            .nth(skip)?;
        self.tried.insert(self.space.fingerprint(&params));
        Some(params)
    }
}
