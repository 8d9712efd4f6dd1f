//! Enumeration and counting of configurations.

use super::SearchSpace;
use super::plan::Plan;
use super::walk::{Step, Walk, configuration};
use crate::spec::Params;

/// Steps that a count may take before it gives up: conditions can make counting hard.
const COUNT_BUDGET: u32 = 1_000_000;

/// All configurations of a grid, one after another, each once: an odometer whose wheels are the
/// hyperparameters with parents first, the last wheel fastest. Inactive wheels stand still, and what a
/// constraint forbids is passed over.
#[derive(Debug, Clone)]
pub struct Grid {
    space: SearchSpace,
    walk: Walk,
    /// Positions that may be looked at for the next one.
    most: u64,
}

impl Grid {
    pub(super) fn new(space: SearchSpace) -> Self {
        Self {
            walk: Walk::new(&space, space.plan.wheels.len()),
            space,
            most: u64::MAX,
        }
    }

    /// Ends where the next configuration is not found among so many positions of hyperparameters.
    #[must_use]
    pub fn within(mut self, most: u64) -> Self {
        self.most = most;
        self
    }
}

impl Iterator for Grid {
    type Item = Params;

    fn next(&mut self) -> Option<Params> {
        let before = self.walk.looked();
        let step = self.walk.step(&self.space, self.most);
        self.space.note(self.walk.looked() - before);
        (step == Step::Stands).then(|| configuration(&self.space, self.walk.values()))
    }
}

/// Number of configurations of a grid, whatever the constraints; `None` where a hyperparameter has no points
/// or conditions make them too many to count.
///
/// Only positions that a condition names are told apart; all others are counted together, so that the work
/// depends on the conditions and not on the ranges.
pub(super) fn count(plan: &Plan) -> Option<u128> {
    let lens = plan.wheels.iter().map(|wheel| wheel.len);
    let mut counter = Counter {
        plan,
        lens: lens.collect::<Option<_>>()?,
        budget: COUNT_BUDGET,
    };
    counter.below(&mut Vec::with_capacity(plan.wheels.len()))
}

struct Counter<'a> {
    plan: &'a Plan,
    lens: Vec<u64>,
    budget: u32,
}

impl Counter<'_> {
    /// Configurations of the wheels after these.
    fn below(&mut self, at: &mut Vec<Option<u64>>) -> Option<u128> {
        self.budget = self.budget.checked_sub(1)?;
        let Some(wheel) = self.plan.wheels.get(at.len()) else {
            return Some(1);
        };
        if !wheel.is_active(at) {
            return self.with(at, None);
        }
        let mut total = 0u128;
        for named in &wheel.named {
            total = total.saturating_add(self.with(at, Some(*named))?);
        }
        // A position that no condition names: every child is inactive, as without the parent.
        let others = self.lens[at.len()].saturating_sub(wheel.named.len() as u64);
        if others > 0 {
            total = total.saturating_add(u128::from(others).saturating_mul(self.with(at, None)?));
        }
        Some(total)
    }

    fn with(&mut self, at: &mut Vec<Option<u64>>, position: Option<u64>) -> Option<u128> {
        at.push(position);
        let found = self.below(at);
        at.pop();
        found
    }
}
