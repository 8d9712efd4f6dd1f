//! What takes work to find out about a space, found out once and shared by all copies of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::SearchSpace;
use super::grid::count;
use super::listing::{Listing, MAX_LISTED, Marks};
use crate::spec::Params;

/// What is kept of a space beside its spec, so that nobody has to look through it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownSpace {
    /// Configurations of its grid that meet the constraints, at most 2^64 - 1; `None`: without number.
    pub configurations: Option<u64>,
    /// The first configuration that meets the constraints; `None`: none was found.
    pub first: Option<Params>,
}

/// What was found out already.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Configurations of the grid, whatever the constraints.
    grid: OnceLock<Option<u128>>,
    /// Those that meet them.
    allowed: OnceLock<Option<u128>>,
    first: OnceLock<Option<Params>>,
    marks: OnceLock<Option<Marks>>,
    /// Positions of hyperparameters that enumerations have looked at.
    looked: AtomicU64,
}

impl SearchSpace {
    /// Everything that takes work, for the record of a job.
    pub fn known(&self) -> KnownSpace {
        let saturated = |count| u64::try_from(count).unwrap_or(u64::MAX);
        KnownSpace {
            configurations: self.grid_len().map(saturated),
            first: self.first_allowed().cloned(),
        }
    }

    /// Takes over what was found out before; of what this space knows itself nothing changes.
    pub fn told(&self, known: &KnownSpace) {
        let count = known.configurations.map(u128::from);
        // Known already: it is the same.
        let _ = self.facts.allowed.set(count);
        let _ = self.facts.first.set(known.first.clone());
    }

    /// Number of different configurations; `None` where a `double` without `step` makes them
    /// uncountable, or conditions or constraints make them too many to count.
    pub fn cardinality(&self) -> Option<u128> {
        self.is_finite().then(|| self.grid_len()).flatten()
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

    /// The first configuration that meets the constraints, of the corners, of draws, then of all where they
    /// are few. `None`: none was found.
    pub fn first_allowed(&self) -> Option<&Params> {
        let first = self.facts.first.get_or_init(|| self.find_first());
        first.as_ref()
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
