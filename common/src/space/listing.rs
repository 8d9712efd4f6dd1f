//! The configurations of a small space by their numbers, without keeping them.
//!
//! One walk through the space notes a place every so often; a configuration is found by walking on from
//! the place noted before it, and so is the number of one. Wheels that nothing names are not walked: their
//! combinations are numbered by arithmetic.

use super::SearchSpace;
use super::walk::{Step, Walk, configuration};
use crate::spec::Params;

/// Spaces of more configurations than this are not listed, whatever their constraints: it is what a search
/// can use up, and a listing takes a fraction of a second.
pub const MAX_LISTED: u64 = 1_000_000;

/// Positions that may be looked at to list a space, long constraints counting as more of them: a second of work.
/// Each configuration is the last of a chain of wheels, of which most share theirs with the one before; with more
/// than this a space counts as too large.
const MAX_LOOKED: u64 = 4 * MAX_LISTED;

/// Positions between two noted places: what finding a configuration costs at most, where room allows.
const PACE: u64 = 64;

/// Positions of wheels that all noted places keep together: 4 MiB. With more of them places lie further apart.
const MAX_NOTED: usize = 1 << 18;

/// A place in the walk.
#[derive(Debug, Clone)]
struct Mark {
    /// Places before it, and positions that were looked at until it.
    before: u64,
    looked: u64,
    at: Box<[Option<u64>]>,
}

/// What a walk has noted.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    /// Places of the walk.
    places: u64,
    /// Configurations at each place: combinations of the wheels that nothing names.
    each: u64,
    /// Positions that were looked at for it.
    pub(super) looked: u64,
}

impl Marks {
    /// Walks through a whole space; `None` where that is too much.
    pub(super) fn new(space: &SearchSpace) -> Option<Self> {
        let each = space.plan.free()?;
        let mut walk = Walk::new(space, space.plan.free_from);
        let mut marks: Vec<Mark> = Vec::new();
        let (mut places, mut pace) = (0, PACE);
        loop {
            match walk.step(space, MAX_LOOKED.saturating_sub(walk.looked())) {
                Step::Stands => {}
                Step::Ended => break,
                Step::Spent => return None,
            }
            let looked = walk.looked();
            if marks.last().is_none_or(|last| looked - last.looked >= pace) {
                marks.push(Mark {
                    before: places,
                    looked,
                    at: walk.at().into(),
                });
            }
            while marks.len() > 1 && marks.len() * space.plan.free_from > MAX_NOTED {
                pace *= 2;
                thin(&mut marks, pace);
            }
            places += 1;
        }
        Some(Self {
            marks,
            places,
            each,
            looked: walk.looked(),
        })
    }

    /// Number of configurations.
    pub(super) fn len(&self) -> u64 {
        self.places.saturating_mul(self.each)
    }
}

/// Leaves out places that lie closer than this to the one before.
fn thin(marks: &mut Vec<Mark>, pace: u64) {
    let mut last: Option<u64> = None;
    marks.retain(|mark| {
        let far = last.is_none_or(|last| mark.looked - last >= pace);
        if far {
            last = Some(mark.looked);
        }
        far
    });
}

/// The configurations that meet the constraints, numbered in the order of a grid.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    space: &'a SearchSpace,
    marks: &'a Marks,
}

impl<'a> Listing<'a> {
    pub(super) fn new(space: &'a SearchSpace, marks: &'a Marks) -> Self {
        Self { space, marks }
    }

    pub fn len(&self) -> u64 {
        self.marks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The configuration of this number; `None` beyond the last.
    pub fn get(&self, number: u64) -> Option<Params> {
        if number >= self.len() {
            return None;
        }
        let (place, mut rest) = (number / self.marks.each, number % self.marks.each);
        let from = self
            .marks
            .marks
            .partition_point(|mark| mark.before <= place);
        let mark = self.marks.marks.get(from.checked_sub(1)?)?;
        let mut walk = Walk::resumed(self.space, &mark.at);
        for _ in mark.before..place {
            walk.step(self.space, u64::MAX);
        }
        self.space.note(walk.looked());
        let mut values = walk.values().to_vec();
        for wheel in self.space.plan.wheels[self.space.plan.free_from..]
            .iter()
            .rev()
        {
            let len = wheel.len?;
            let domain = &self.space.parameters[wheel.parameter].domain;
            values[wheel.parameter] = Some(domain.grid_at(rest % len));
            rest /= len;
        }
        Some(configuration(self.space, &values))
    }

    /// The number of a configuration; `None` where it is not one of these.
    pub fn number(&self, params: &Params) -> Option<u64> {
        let plan = &self.space.plan;
        let at = plan.wheels.iter().map(|wheel| {
            let parameter = &self.space.parameters[wheel.parameter];
            match params.get(&parameter.name) {
                Some(value) => parameter.domain.position(value).map(Some),
                None => Some(None),
            }
        });
        let at: Vec<Option<u64>> = at.collect::<Option<_>>()?;
        let (walked, free) = at.split_at(plan.free_from);
        let marks = &self.marks.marks;
        let from = marks.partition_point(|mark| mark.at.as_ref() <= walked);
        let from = from.checked_sub(1)?;
        let end = marks
            .get(from + 1)
            .map_or(self.marks.places, |next| next.before);
        let mut walk = Walk::resumed(self.space, &marks[from].at);
        let mut place = marks[from].before;
        while walk.at() < walked && place + 1 < end {
            walk.step(self.space, u64::MAX);
            place += 1;
        }
        self.space.note(walk.looked());
        if walk.at() != walked {
            return None;
        }
        let mut number = place;
        for (wheel, at) in plan.wheels[plan.free_from..].iter().zip(free) {
            number = number * wheel.len? + (*at)?;
        }
        Some(number)
    }
}
