//! Going through the configurations of a space one after another, the last wheel fastest.
//!
//! A constraint is judged as soon as its last hyperparameter stands: what follows a broken one is passed over
//! without being looked at.

use serde_json::Value;

use super::SearchSpace;
use crate::spec::Params;

/// Characters of constraints that take as long to judge as looking at a position does, about a quarter of a
/// microsecond.
const JUDGED_A_POSITION: u64 = 256;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All wheels stand, and no constraint that names them alone is broken.
    Stands,
    /// There is nothing more.
    Ended,
    /// So many positions were looked at as it was allowed to.
    Spent,
}

/// A place in the enumeration of the first so many wheels.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// Wheels that it turns.
    end: usize,
    /// Positions of the wheels that stand; `None` while inactive.
    at: Vec<Option<u64>>,
    /// The same as values, by hyperparameter.
    values: Vec<Option<Value>>,
    /// No constraint that could be judged is broken, and this place was not told yet.
    good: bool,
    /// Positions that were looked at.
    turned: u64,
    /// Characters of the constraints that were judged.
    judged: u64,
}

impl Walk {
    /// Before the first place.
    pub(super) fn new(space: &SearchSpace, end: usize) -> Self {
        Self {
            end,
            at: Vec::with_capacity(end),
            values: vec![None; space.parameters.len()],
            good: true,
            turned: 0,
            judged: 0,
        }
    }

    /// At a place that was told before.
    pub(super) fn resumed(space: &SearchSpace, at: &[Option<u64>]) -> Self {
        let mut walk = Self::new(space, at.len());
        at.iter().for_each(|position| walk.push(space, *position));
        walk.good = false;
        walk
    }

    pub(super) fn at(&self) -> &[Option<u64>] {
        &self.at
    }

    /// Positions that were looked at, and what it took to judge them.
    pub(super) fn looked(&self) -> u64 {
        self.turned.saturating_add(self.judged / JUDGED_A_POSITION)
    }

    /// The value of each hyperparameter that stands and is active, by its place in the spec.
    pub(super) fn values(&self) -> &[Option<Value>] {
        &self.values
    }

    /// Goes to the next place, looking at `most` positions at most. After `Spent` it may go on.
    pub(super) fn step(&mut self, space: &SearchSpace, most: u64) -> Step {
        let until = self.looked().saturating_add(most);
        loop {
            if self.good && self.at.len() == self.end {
                self.good = false;
                return Step::Stands;
            }
            if self.looked() >= until {
                return Step::Spent;
            }
            let moved = match self.good {
                true => self.enter(space),
                false => self.turn(space),
            };
            if !moved {
                return Step::Ended;
            }
            self.good = self.holds(space);
        }
    }

    /// Puts the next wheel at its first position.
    fn enter(&mut self, space: &SearchSpace) -> bool {
        let wheel = &space.plan.wheels[self.at.len()];
        let active = wheel.is_active(&self.at);
        self.push(space, active.then_some(0));
        true
    }

    /// Turns the last wheel that can be turned. False: none can.
    fn turn(&mut self, space: &SearchSpace) -> bool {
        while let Some(last) = self.at.pop() {
            let wheel = &space.plan.wheels[self.at.len()];
            self.values[wheel.parameter] = None;
            let next = last.map(|at| at + 1);
            if let Some(next) = next.filter(|next| wheel.len.is_some_and(|len| *next < len)) {
                self.push(space, Some(next));
                return true;
            }
        }
        false
    }

    fn push(&mut self, space: &SearchSpace, position: Option<u64>) {
        let parameter = space.plan.wheels[self.at.len()].parameter;
        let domain = &space.parameters[parameter].domain;
        self.values[parameter] = position.map(|position| domain.grid_at(position));
        self.at.push(position);
        self.turned += 1;
    }

    /// Whether the constraints that the last wheel decides are met.
    fn holds(&mut self, space: &SearchSpace) -> bool {
        let Some(wheel) = self.at.len().checked_sub(1) else {
            return true;
        };
        let mut decided = space.plan.wheels[wheel].decides.iter();
        decided.all(|at| {
            let constraint = &space.constraints[*at];
            self.judged += constraint.text().len() as u64;
            constraint.holds_with(|parameter| self.values[parameter].as_ref())
        })
    }
}

/// A configuration of values by the place of their hyperparameters.
pub(super) fn configuration(space: &SearchSpace, values: &[Option<Value>]) -> Params {
    let named = space.parameters.iter().zip(values);
    named
        .filter_map(|(parameter, value)| Some((parameter.name.clone(), value.clone()?)))
        .collect()
}
