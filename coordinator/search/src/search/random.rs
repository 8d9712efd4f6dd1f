//! Random and quasi-random search.
//!
//! Trial t's configuration is drawn with the key (seed, t, try), or is the next point of a sequence. In a
//! finite space a configuration is not proposed twice, and the search ends when all have been proposed.
//! Where there is nothing to choose, trials differ by their own seeds alone and there are as many as asked
//! for.

use std::collections::BTreeSet;

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::space::{MAX_LISTED, SearchSpace};
use trainyard_common::spec::Params;

use super::axes::{Axes, Kind};
use super::proposed::Proposed;
use super::sequence::Sequence;

/// Draws that constraints may refuse before it is looked near a configuration that is known to meet them, and
/// tries there.
const MAX_REFUSED: u64 = 2_000;

/// How near, as a power of 1/2 of a range.
const NARROWEST: f64 = 30.0;

/// Draws before one of the untried configurations is taken instead. Beyond [`MAX_LISTED`] so many repeated draws
/// mean a very uneven distribution, and the repetition is let through.
const MAX_TRIES: u64 = 64;

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
    /// The same by their numbers, once draws kept repeating.
    proposed: Option<Proposed>,
    /// The axes, once no draw met the constraints.
    axes: Option<Box<Axes>>,
    /// The first configuration that meets the constraints was proposed.
    first_is_known: bool,
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
            proposed: None,
            axes: None,
            first_is_known: false,
        }
    }

    pub(super) fn next(&mut self, trial: TrialId) -> Option<Params> {
        let key = self.key.with(u64::from(trial.0));
        let params = match self.finite {
            None => self.allowed(key),
            Some(size) => self.untried(key, size),
        }?;
        self.take(&params);
        Some(params)
    }

    /// Notes a configuration that was proposed. False: it was proposed before, in a finite space.
    pub(super) fn take(&mut self, params: &Params) -> bool {
        if self.space.is_constrained() && self.space.first_allowed() == Some(params) {
            self.first_is_known = true;
        }
        if self.finite.is_none() {
            return true;
        }
        let is_new = self.tried.insert(self.space.fingerprint(params));
        if let (Some(proposed), Some(listing)) = (&mut self.proposed, self.space.listed()) {
            proposed.note(listing, params);
        }
        is_new
    }

    /// As [`Self::next`] for a trial that has this configuration: what comes later is as if it had been
    /// proposed now, for less work. Where one draw tells, it is asked.
    pub(super) fn adopt(&mut self, trial: TrialId, params: &Params) -> Option<Params> {
        if self.finite.is_none() && !self.space.is_constrained() {
            return self.next(trial);
        }
        if self.sequence.is_some() {
            self.pass(params);
        }
        self.take(params);
        Some(params.clone())
    }

    /// What the next draw takes, about, where the constraints refuse most.
    pub(super) fn effort_ms(&self) -> u64 {
        let refused = match self.space.is_constrained() {
            true => self.space.draws(MAX_REFUSED),
            false => 0,
        };
        refused * self.space.draw_ns() / 1_000_000
    }

    /// Uses the points of the sequence that were used until this configuration was found.
    fn pass(&mut self, params: &Params) {
        let repeated = || self.tried.contains(&self.space.fingerprint(params));
        if let Some(size) = self.finite {
            // A repetition was not taken from the first of them.
            let sought = (!repeated()).then_some(params);
            if self.draw_until(MAX_TRIES, sought) || size <= u128::from(MAX_LISTED) {
                return;
            }
            if !self.space.is_constrained() {
                self.used += 1;
                return;
            }
        }
        self.draw_until(self.space.draws(MAX_REFUSED), Some(params));
    }

    /// Draws so often, or until this is drawn. Whether it was.
    fn draw_until(&mut self, most: u64, sought: Option<&Params>) -> bool {
        let key = self.key;
        (0..most).any(|attempt| Some(&self.draw(key, attempt)) == sought)
    }

    /// The first draw that meets the constraints; `None` after very many that do not.
    fn allowed(&mut self, key: Key) -> Option<Params> {
        if !self.space.is_constrained() {
            return Some(self.draw(key, 0));
        }
        let most = self.space.draws(MAX_REFUSED);
        let drawn = (0..most).find_map(|attempt| {
            let params = self.draw(key, attempt);
            self.space.allows(&params).then_some(params)
        });
        drawn.or_else(|| self.near_allowed(key))
    }

    /// Where hardly any configuration meets the constraints: one between a draw and a configuration that does,
    /// the nearer to it the more are refused; that one itself if nothing else is left and it was not proposed.
    fn near_allowed(&mut self, key: Key) -> Option<Params> {
        let space = &self.space;
        let known = space.first_allowed()?;
        let axes = self
            .axes
            .get_or_insert_with(|| Box::new(Axes::new(space.clone())));
        let anchor = axes.encode(known)?;
        let between = (0..space.draws(MAX_REFUSED)).map(|attempt| {
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
        found.or_else(|| (!self.first_is_known).then(|| known.clone()))
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
            if self.space.allows(&params) && !self.tried.contains(&self.space.fingerprint(&params))
            {
                return Some(params);
            }
        }
        if size > u128::from(MAX_LISTED) {
            return self.allowed(key.with(MAX_TRIES));
        }
        // A finite space has the same configurations as its grid.
        let before = key.with(MAX_TRIES).below(0, left as u64);
        let listing = self.space.listing()?;
        let (space, tried) = (&self.space, &self.tried);
        let proposed = self.proposed.get_or_insert_with(|| {
            let mut proposed = Proposed::default();
            let known = tried.iter().filter_map(|text| space.of_fingerprint(text));
            known.for_each(|params| proposed.note(listing, &params));
            proposed
        });
        proposed.nth_left(listing, before)
    }
}
