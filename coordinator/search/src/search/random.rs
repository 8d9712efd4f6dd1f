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

use super::proposed::Proposed;
use super::sequence::Sequence;

/// Draws that constraints may refuse before one is led to what meets them.
const MAX_REFUSED: u64 = 2_000;

/// Draws before one of the untried configurations is taken instead. Beyond [`MAX_LISTED`] so many repeated draws
/// mean a very uneven distribution, and the repetition is let through; or, with constraints, that there is nothing
/// else, and the search ends.
const MAX_TRIES: u64 = 64;

/// Where more than one of so many was tried, draws may repeat what was.
const OFTEN: u128 = 8;

/// To list the configurations that meet constraints, about; to list one where there are none, and to find one that was
/// tried in a list.
const LISTING_NS: u64 = 300_000_000;
const LISTED_NS: u64 = 100;
const NOTED_NS: u64 = 2_000;

#[derive(Debug, Clone)]
pub(super) struct RandomSearch {
    space: SearchSpace,
    key: Key,
    /// Where the points come from, unless they are drawn, and how many of it were used.
    sequence: Option<Sequence>,
    used: u64,
    /// Size of the space; `None` where there is nothing to repeat or to run out of.
    finite: Option<u128>,
    /// Fingerprints of what was proposed, where it may come twice.
    tried: BTreeSet<String>,
    /// The same by their numbers, once draws kept repeating.
    proposed: Option<Proposed>,
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

    /// Notes a configuration that was proposed. False: it was proposed before.
    pub(super) fn take(&mut self, params: &Params) -> bool {
        if !self.remembers() {
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
        match self.finite {
            // What draws do not find is taken from a list.
            Some(size) => (MAX_TRIES * self.space.draw_ns() + self.listing_ns(size)) / 1_000_000,
            None => self.space.drawing_ms(MAX_REFUSED),
        }
    }

    /// What finding the untried ones in a list takes that was not made yet. Draws that are hardly ever repeated do not
    /// come to that.
    fn listing_ns(&self, size: u128) -> u64 {
        let tried = self.tried.len() as u64;
        let often = u128::from(tried) * OFTEN >= size;
        if size > u128::from(MAX_LISTED) || self.proposed.is_some() {
            return 0;
        }
        match (self.space.is_constrained(), self.space.listed()) {
            (true, None) => LISTING_NS,
            (false, None) if often => size as u64 * LISTED_NS + tried * NOTED_NS,
            (_, Some(_)) if often => tried * NOTED_NS,
            _ => 0,
        }
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
        let drawn = (0..self.space.draws(MAX_REFUSED)).find_map(|attempt| {
            let params = self.draw(key, attempt);
            (self.space.allows(&params) && self.is_untried(&params)).then_some(params)
        });
        drawn.or_else(|| self.rare(key))
    }

    /// Where hardly any configuration meets the constraints. `None`: none is known that was not proposed, or in a
    /// finite space many draws have repeated those that were.
    fn rare(&self, key: Key) -> Option<Params> {
        let key = key.named("rare");
        let drawn = (0..MAX_TRIES).map_while(|attempt| self.space.sample_rare(key.with(attempt)));
        let known = self.space.first_allowed().cloned();
        let mut found = drawn.chain(known);
        found.find(|params| self.is_untried(params))
    }

    fn is_untried(&self, params: &Params) -> bool {
        !self.remembers() || !self.tried.contains(&self.space.fingerprint(params))
    }

    /// Whether a configuration may come twice.
    fn remembers(&self) -> bool {
        self.finite.is_some() || self.space.rarely_allows()
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
            if self.space.allows(&params) && self.is_untried(&params) {
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
