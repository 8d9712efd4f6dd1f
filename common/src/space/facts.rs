//! What takes work to find out about a space, found out once and shared by all copies of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::SearchSpace;
use super::feasible::Feasible;
use super::grid::count;
use super::listing::{Listing, MAX_LISTED, Marks};
use crate::rng::Key;
use crate::spec::Params;

/// Draws, and corners before them, in which a configuration that meets the constraints is looked for.
const MAX_DRAWS: u64 = 10_000;
const MAX_CORNERS: usize = 128;

/// What is kept of a space beside its spec, so that nobody has to look through it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownSpace {
    /// Configurations of its grid that meet the constraints, at most 2^64 - 1; `None`: without number.
    pub configurations: Option<u64>,
    /// The first configuration that meets the constraints; `None`: none was found.
    pub first: Option<Params>,
    /// The share of some draws that meet the constraints; `None` in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<f64>,
}

/// What was found out already.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Configurations of the grid, whatever the constraints.
    grid: OnceLock<Option<u128>>,
    /// Those that meet them.
    allowed: OnceLock<Option<u128>>,
    first: OnceLock<Option<Params>>,
    /// A configuration that meets the constraints, of corners, draws or a list.
    looked_for: OnceLock<Option<Params>>,
    marks: OnceLock<Option<Marks>>,
    /// The share of some draws that meet the constraints.
    drawn: OnceLock<f64>,
    feasible: OnceLock<Option<Feasible>>,
    /// Positions of hyperparameters that enumerations have looked at.
    looked: AtomicU64,
}

impl SearchSpace {
    /// Everything that takes work, for the record of a job.
    pub fn known(&self) -> KnownSpace {
        self.prepare();
        let saturated = |count| u64::try_from(count).unwrap_or(u64::MAX);
        KnownSpace {
            configurations: self.grid_len().map(saturated),
            first: self.first_allowed().cloned(),
            drawn: self.is_constrained().then(|| self.drawn_share()),
        }
    }

    /// Finds out what draws need; what is listed is taken from its list.
    fn prepare(&self) {
        if self.rarely_allows() && self.cardinality().is_none() {
            self.feasible();
        }
    }

    /// Takes over what was found out before; of what this space knows itself nothing changes.
    pub fn told(&self, known: &KnownSpace) {
        let count = known.configurations.map(u128::from);
        // Known already: it is the same.
        let _ = self.facts.allowed.set(count);
        let _ = self.facts.first.set(known.first.clone());
        if let Some(drawn) = known.drawn {
            let _ = self.facts.drawn.set(drawn);
        }
    }

    /// Number of different configurations; `None` where a `double` without `step` makes them
    /// uncountable, or conditions or constraints make them too many to count.
    pub fn cardinality(&self) -> Option<u128> {
        self.is_finite().then(|| self.grid_len()).flatten()
    }

    /// Configurations that meet the constraints, and all, where they are [counted](Self::cardinality).
    pub(super) fn counted(&self) -> Option<(u128, u128)> {
        Some((self.cardinality()?, self.unconstrained()?))
    }

    /// Whether every hyperparameter has finitely many values.
    pub(super) fn is_finite(&self) -> bool {
        let mut parameters = self.parameters.iter();
        parameters.all(|parameter| parameter.domain.cardinality().is_some())
    }

    /// Number of configurations of the grid that meet the constraints; `None` where a hyperparameter has no
    /// `count`, where conditions make them too many to count, and with constraints where there are more than
    /// [`MAX_LISTED`] before those that break one are taken out.
    pub fn grid_len(&self) -> Option<u128> {
        *self.facts.allowed.get_or_init(|| {
            let count = self.unconstrained()?;
            match self.constraints.is_empty() {
                true => Some(count),
                false => self.marks().map(|marks| u128::from(marks.len())),
            }
        })
    }

    fn unconstrained(&self) -> Option<u128> {
        *self.facts.grid.get_or_init(|| count(&self.plan))
    }

    /// The configurations of the grid by their numbers; `None` where there are more than [`MAX_LISTED`],
    /// whatever the constraints. The first call takes a fraction of a second, others nothing.
    pub fn listing(&self) -> Option<Listing<'_>> {
        self.marks().map(|marks| Listing::new(self, marks))
    }

    /// As [`Self::listing`], if somebody has called that.
    pub fn listed(&self) -> Option<Listing<'_>> {
        let marks = self.facts.marks.get()?.as_ref()?;
        Some(Listing::new(self, marks))
    }

    fn marks(&self) -> Option<&Marks> {
        let marks = self.facts.marks.get_or_init(|| {
            let few = self.unconstrained()? <= u128::from(MAX_LISTED);
            let marks = few.then(|| Marks::new(self)).flatten()?;
            self.note(marks.looked);
            Some(marks)
        });
        marks.as_ref()
    }

    /// Whether what draws need was found out.
    pub(super) fn is_prepared(&self) -> bool {
        self.facts.feasible.get().is_some()
    }

    /// The first configuration that meets the constraints, of the corners, of draws, of all where they are few, then
    /// of those that draws are led to. `None`: none was found.
    pub fn first_allowed(&self) -> Option<&Params> {
        let first = self.facts.first.get_or_init(|| {
            let found = self.found_by_looking().cloned();
            found.or_else(|| self.feasible()?.first(self))
        });
        first.as_ref()
    }

    fn look(&self) -> Option<Params> {
        let first = self.first();
        if self.allows(&first) {
            return Some(first);
        }
        let key = Key::new(0).named("allowed");
        let draws = (0..self.affordable(MAX_DRAWS)).map(|draw| self.sample(key.with(draw)));
        let corners = self.corners(MAX_CORNERS).into_iter();
        let mut looked = corners.chain(draws);
        let listed = || {
            let all = self.is_finite().then(|| self.listing()).flatten()?;
            all.get(0)
        };
        looked.find(|params| self.allows(params)).or_else(listed)
    }

    fn draw_share(&self) -> f64 {
        let key = Key::new(0).named("share");
        let draws = self.affordable(MAX_DRAWS);
        let allowed = (0..draws).filter(|draw| self.allows(&self.sample(key.with(*draw))));
        allowed.count() as f64 / draws as f64
    }

    pub(super) fn found_by_looking(&self) -> Option<&Params> {
        let found = self.facts.looked_for.get_or_init(|| self.look());
        found.as_ref()
    }

    /// The share of draws that meet the constraints.
    pub(super) fn drawn_share(&self) -> f64 {
        *self.facts.drawn.get_or_init(|| self.draw_share())
    }

    /// What draws begin with where hardly any meets the constraints. The first call takes up to about a second.
    pub(super) fn feasible(&self) -> Option<&Feasible> {
        let feasible = self.facts.feasible.get_or_init(|| Feasible::find(self));
        feasible.as_ref()
    }

    /// Positions of hyperparameters that enumerations of this space and its copies have looked at: the work that
    /// grows with a space.
    pub fn looked(&self) -> u64 {
        self.facts.looked.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, looked: u64) {
        self.facts.looked.fetch_add(looked, Ordering::Relaxed);
    }
}
