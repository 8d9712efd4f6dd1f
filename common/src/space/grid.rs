//! Enumeration and counting of configurations.

use std::collections::BTreeSet;

use super::{Domain, SearchSpace, same_value};
use crate::spec::Params;

/// Steps that a count may take before it gives up: conditions can make counting hard.
const COUNT_BUDGET: u32 = 1_000_000;

/// All configurations of a grid, one after another, each once: an odometer whose wheels are the
/// hyperparameters with parents first, the last wheel fastest. Inactive wheels stand still, and what a
/// constraint forbids is passed over.
#[derive(Debug, Clone)]
pub struct Grid {
    space: SearchSpace,
    /// For each wheel in `space.order`, its position; `None` while inactive. `None` at the end.
    wheels: Option<Vec<Option<u64>>>,
}

impl Grid {
    pub(super) fn new(space: SearchSpace) -> Self {
        let mut grid = Self {
            wheels: None,
            space,
        };
        grid.wheels = Some(grid.settle(Vec::new()));
        grid
    }

    /// Adds the first position of every wheel after those that stand.
    fn settle(&self, mut wheels: Vec<Option<u64>>) -> Vec<Option<u64>> {
        let mut params = self.params(&wheels);
        for &position in &self.space.order[wheels.len()..] {
            let active = self.space.is_active(position, &params);
            if active {
                let parameter = &self.space.parameters[position];
                params.insert(parameter.name.clone(), parameter.domain.grid_at(0));
            }
            wheels.push(active.then_some(0));
        }
        wheels
    }

    fn params(&self, wheels: &[Option<u64>]) -> Params {
        self.space
            .order
            .iter()
            .zip(wheels)
            .filter_map(|(&position, wheel)| {
                let parameter = &self.space.parameters[position];
                wheel.map(|at| (parameter.name.clone(), parameter.domain.grid_at(at)))
            })
            .collect()
    }

    fn turn(&self, mut wheels: Vec<Option<u64>>) -> Option<Vec<Option<u64>>> {
        while let Some(wheel) = wheels.pop() {
            let position = self.space.order[wheels.len()];
            let len = self.space.parameters[position].domain.grid_len()?;
            if let Some(next) = wheel.map(|at| at + 1).filter(|next| *next < len) {
                wheels.push(Some(next));
                return Some(self.settle(wheels));
            }
        }
        None
    }
}

impl Iterator for Grid {
    type Item = Params;

    fn next(&mut self) -> Option<Params> {
        loop {
            let wheels = self.wheels.take()?;
            let params = self.space.in_spec_order(self.params(&wheels));
            self.wheels = self.turn(wheels);
            if self.space.allows(&params) {
                return Some(params);
            }
        }
    }
}

/// Number of configurations where `len` gives each domain's number of values.
///
/// Only values of parents that a condition names are told apart; all others are counted together, so
/// that the work depends on the conditions and not on the ranges.
pub(super) fn count(space: &SearchSpace, len: impl Fn(&Domain) -> Option<u128>) -> Option<u128> {
    let lens: Option<Vec<u128>> = space
        .parameters
        .iter()
        .map(|parameter| len(&parameter.domain))
        .collect();
    let mut counter = Counter {
        space,
        lens: lens?,
        budget: COUNT_BUDGET,
    };
    counter.below(0, &mut Params::new())
}

struct Counter<'a> {
    space: &'a SearchSpace,
    lens: Vec<u128>,
    budget: u32,
}

impl Counter<'_> {
    /// Configurations of the wheels from `depth` on, given the parents' values.
    fn below(&mut self, depth: usize, parents: &mut Params) -> Option<u128> {
        self.budget = self.budget.checked_sub(1)?;
        let Some(&position) = self.space.order.get(depth) else {
            return Some(1);
        };
        if !self.space.is_active(position, parents) {
            return self.below(depth + 1, parents);
        }
        let named = self.named_values(position);
        let name = &self.space.parameters[position].name;
        let mut total = 0u128;
        for value in &named {
            parents.insert(name.clone(), value.clone());
            total = total.saturating_add(self.below(depth + 1, parents)?);
            parents.remove(name);
        }
        // A value that no condition names: every child is inactive, as without the parent.
        let others = self.lens[position].saturating_sub(named.len() as u128);
        if others > 0 {
            total = total.saturating_add(others.saturating_mul(self.below(depth + 1, parents)?));
        }
        Some(total)
    }

    /// Different values of a parameter that conditions name.
    fn named_values(&self, position: usize) -> Vec<serde_json::Value> {
        let mut named: Vec<serde_json::Value> = Vec::new();
        let mut seen = BTreeSet::new();
        let conditions = self
            .space
            .parameters
            .iter()
            .flat_map(|parameter| &parameter.conditions);
        for condition in conditions.filter(|condition| condition.parent == position) {
            for value in &condition.values {
                if seen.insert(super::domain::canonical(value))
                    && !named.iter().any(|known| same_value(known, value))
                {
                    named.push(value.clone());
                }
            }
        }
        named
    }
}
