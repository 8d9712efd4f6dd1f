//! What walking through all configurations needs to know of a space, worked out once: which wheel stands on
//! which, and after which wheel a constraint can be judged.
//!
//! A wheel is a hyperparameter whose positions are the points of a grid; wheels stand in the order of
//! enumeration, parents before children.

use std::collections::BTreeMap;

use super::{Constraint, Domain, Parameter};

/// One hyperparameter of an enumeration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wheel {
    /// Where the hyperparameter stands in the spec.
    pub(super) parameter: usize,
    /// Number of positions; `None` for a continuous range without `count`.
    pub(super) len: Option<u64>,
    /// It is active where each of these wheels has one of these positions, which ascend.
    needs: Vec<(usize, Vec<u64>)>,
    /// Its positions that other wheels need, ascending.
    pub(super) named: Vec<u64>,
    /// Constraints of which this is the last wheel.
    pub(super) decides: Vec<usize>,
}

impl Wheel {
    /// Whether it is active, given the positions of the wheels before it.
    pub(super) fn is_active(&self, at: &[Option<u64>]) -> bool {
        let stands = |(wheel, wanted): &(usize, Vec<u64>)| {
            let position = at.get(*wheel).copied().flatten();
            position.is_some_and(|position| wanted.binary_search(&position).is_ok())
        };
        self.needs.iter().all(stands)
    }
}

/// All wheels, in the order of enumeration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) wheels: Vec<Wheel>,
    /// From this wheel on neither a condition nor a constraint names any: each position goes with each.
    pub(super) free_from: usize,
}

impl Plan {
    /// `order` has parents before children.
    pub(super) fn new(
        parameters: &[Parameter],
        order: &[usize],
        constraints: &[Constraint],
    ) -> Self {
        let mut wheel_of = vec![0; parameters.len()];
        for (wheel, parameter) in order.iter().enumerate() {
            wheel_of[*parameter] = wheel;
        }
        let mut named = vec![Vec::new(); order.len()];
        let mut needs = vec![Vec::new(); order.len()];
        let mut known = BTreeMap::new();
        for (position, parameter) in parameters.iter().enumerate() {
            for condition in &parameter.conditions {
                let parent = &parameters[condition.parent].domain;
                let of_parent = known
                    .entry(condition.parent)
                    .or_insert_with(|| Positions::of(parent));
                let values = condition.values.iter();
                let mut wanted: Vec<u64> = values.filter_map(|v| of_parent.at(parent, v)).collect();
                wanted.sort_unstable();
                wanted.dedup();
                named[wheel_of[condition.parent]].extend_from_slice(&wanted);
                needs[wheel_of[position]].push((wheel_of[condition.parent], wanted));
            }
        }
        let mut decides = vec![Vec::new(); order.len()];
        for (at, constraint) in constraints.iter().enumerate() {
            // A constraint without a name is refused when it is read.
            let last = constraint.names().iter().map(|name| wheel_of[*name]).max();
            decides[last.unwrap_or(0)].push(at);
        }
        let parts = order.iter().zip(named).zip(needs).zip(decides);
        let wheels: Vec<Wheel> = parts
            .map(|(((parameter, mut named), needs), decides)| {
                named.sort_unstable();
                named.dedup();
                Wheel {
                    parameter: *parameter,
                    len: parameters[*parameter].domain.grid_len(),
                    needs,
                    named,
                    decides,
                }
            })
            .collect();
        let bound = |wheel: &Wheel| !wheel.needs.is_empty() || !wheel.decides.is_empty();
        let free_from = wheels.iter().rposition(bound).map_or(0, |last| last + 1);
        Self { wheels, free_from }
    }

    /// Combinations of the wheels that nothing names; `None` beyond 64 bits.
    pub(super) fn free(&self) -> Option<u64> {
        let free = self.wheels[self.free_from..].iter();
        free.map(|wheel| wheel.len)
            .try_fold(1u64, |all, len| all.checked_mul(len?))
    }
}

/// Where the values of a domain stand on its wheel.
enum Positions {
    Computed,
    /// Choices by their texts: there may be many, and a condition may name many of them.
    Listed(BTreeMap<String, u64>),
}

impl Positions {
    fn of(domain: &Domain) -> Self {
        match domain {
            Domain::Categorical(values) | Domain::Ordinal(values) => {
                let texts = values.iter().map(super::domain::canonical);
                Self::Listed(texts.zip(0..).collect())
            }
            _ => Self::Computed,
        }
    }

    fn at(&self, domain: &Domain, value: &serde_json::Value) -> Option<u64> {
        match self {
            Self::Computed => domain.position(value),
            Self::Listed(known) => known.get(&super::domain::canonical(value)).copied(),
        }
    }
}
