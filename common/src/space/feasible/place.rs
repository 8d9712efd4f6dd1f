//! A point of the unit cube, how far its configuration is from meeting the constraints, and its moves.

use serde_json::Value;

use super::super::constraint::Demand;
use super::super::effort::{CHARACTER_NS, VALUE_NS};
use super::super::{Domain, Parameter, SearchSpace, walk};
use super::cover::Cover;
use super::draws::Draws;
use crate::rng::Key;
use crate::spec::Params;

/// Draws from which the scales of comparisons are learned.
const SCALES: u64 = 200;

/// Halvings, about, until a slice is as narrow as a number can be told from the next.
const MAX_SHRINKS: usize = 60;

/// Jumps of a round of moves.
const JUMPS: usize = 16;

/// Rounds of moves within one box of the cover, of all.
const STAYS: f64 = 0.5;

/// Of a move's direction: coordinates that differ by less are the same.
const STILL: f64 = 1e-12;

/// A point.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// One for each hyperparameter, active or not, in [0, 1].
    pub(super) coordinates: Vec<f64>,
    /// By hyperparameter; `None` while inactive.
    values: Vec<Option<Value>>,
    /// By constraint.
    misses: Vec<f64>,
    /// What its moves took, as estimated.
    pub(super) spent_ns: u64,
}

impl Place {
    /// How far it is from meeting all constraints; 0 where it does.
    pub(super) fn missed(&self) -> f64 {
        self.misses.iter().sum()
    }

    pub(super) fn params(&self, space: &SearchSpace) -> Params {
        walk::configuration(space, &self.values)
    }
}

/// Where moves may lead.
#[derive(Debug, Clone)]
pub(super) struct Within {
    /// The constraints may be missed by so much.
    pub(super) missed: f64,
    /// And every coordinate lies near this one.
    near: Option<(Vec<f64>, f64)>,
}

impl Within {
    /// All that meets the constraints.
    pub(super) fn everything() -> Self {
        Self::missing(0.0)
    }

    pub(super) fn missing(missed: f64) -> Self {
        Self { missed, near: None }
    }

    /// What meets them and is at most `width` away on every axis.
    pub(super) fn around(place: &Place, width: f64) -> Self {
        Self {
            missed: 0.0,
            near: Some((place.coordinates.clone(), width)),
        }
    }

    /// The part of an axis.
    fn of(&self, axis: usize) -> (f64, f64) {
        match &self.near {
            None => (0.0, 1.0),
            Some((centre, width)) => (
                f64::max(centre[axis] - width, 0.0),
                f64::min(centre[axis] + width, 1.0),
            ),
        }
    }
}

/// What is the same for all points of a space.
#[derive(Debug)]
pub(super) struct Frame {
    demands: Vec<Demand>,
    /// Where all points lie.
    pub(super) cover: Cover,
    /// By axis: whose values may change with its coordinate, itself first, parents before children.
    moved: Vec<Vec<usize>>,
    /// By axis: constraints that may change with it.
    judged: Vec<Vec<usize>>,
    /// Axes with something to choose.
    free: Vec<usize>,
    /// Of these, those on which it means something how far two values are apart.
    ordered: Vec<usize>,
}

impl Frame {
    pub(super) fn new(space: &SearchSpace, key: Key) -> Self {
        let parameters = space.parameters();
        let moved: Vec<Vec<usize>> = (0..parameters.len())
            .map(|axis| dependents(space, axis))
            .collect();
        let demands: Vec<Demand> = space.constraints.iter().map(Demand::new).collect();
        let judged = moved.iter().map(|moved| {
            let names = |demand: &Demand| demand.names().iter().any(|name| moved.contains(name));
            let judged = demands.iter().enumerate();
            judged
                .filter(|(_, demand)| names(demand))
                .map(|(at, _)| at)
                .collect()
        });
        let judged = judged.collect();
        let is_free = |axis: &usize| parameters[*axis].domain.cardinality() != Some(1);
        let free: Vec<usize> = (0..parameters.len()).filter(is_free).collect();
        let is_ordered =
            |axis: &&usize| !matches!(parameters[**axis].domain, Domain::Categorical(_));
        let ordered = free.iter().filter(is_ordered).copied().collect();
        let mut frame = Self {
            cover: Cover::new(space, &demands, key.named("cover")),
            demands,
            moved,
            judged,
            free,
            ordered,
        };
        let draws: Vec<Vec<Option<Value>>> = (0..SCALES)
            .map(|draw| frame.drawn(space, &mut Draws::new(key.with(draw))).values)
            .collect();
        for demand in &mut frame.demands {
            demand.scale(&draws);
        }
        frame
    }

    /// A point of the cover, whether or not it meets the constraints.
    pub(super) fn drawn(&self, space: &SearchSpace, draws: &mut Draws) -> Place {
        self.at(space, self.cover.draw(draws))
    }

    /// The point of a configuration; what is inactive is drawn. `None` where it is none of the space that meets the
    /// constraints.
    pub(super) fn place(
        &self,
        space: &SearchSpace,
        params: &Params,
        draws: &mut Draws,
    ) -> Option<Place> {
        let coordinate = |parameter: &Parameter, draws: &mut Draws| {
            let drawn = draws.unit();
            match params.get(&parameter.name) {
                Some(value) => parameter.domain.share(value),
                None => Some(drawn),
            }
        };
        let parameters = space.parameters().iter();
        let coordinates: Option<Vec<f64>> = parameters.map(|p| coordinate(p, draws)).collect();
        let place = self.at(space, coordinates?);
        (place.missed() == 0.0).then_some(place)
    }

    pub(super) fn at(&self, space: &SearchSpace, coordinates: Vec<f64>) -> Place {
        let mut place = Place {
            values: vec![None; coordinates.len()],
            misses: vec![0.0; self.demands.len()],
            coordinates,
            spent_ns: 0,
        };
        place.set_values(space, space.parents_first());
        self.judge(&mut place, 0..self.demands.len());
        place
    }

    fn judge(&self, place: &mut Place, demands: impl Iterator<Item = usize>) {
        for at in demands {
            let demand = &self.demands[at];
            place.misses[at] = demand.miss(&place.values);
            place.spent_ns += CHARACTER_NS * demand.characters();
        }
    }

    /// The box of the cover in which a point moves for a round; `None`: in all of them. Both are needed: parts of what
    /// meets the constraints are small beside the cube, and a box may hold a part of what is connected.
    fn home(&self, place: &Place, draws: &mut Draws) -> Option<usize> {
        let stays = self.cover.is_split() && draws.unit() < STAYS;
        stays
            .then(|| self.cover.box_of(&place.coordinates))
            .flatten()
    }

    /// The part of an axis that is both within and in a box, or in the one around all.
    fn part(&self, home: Option<usize>, axis: usize, within: &Within) -> (f64, f64) {
        let (low, high) = within.of(axis);
        let (least, most) = self.cover.side(home, axis);
        (f64::max(low, least), f64::min(high, most))
    }

    /// Whether a point may go where it is. The way back is the same move: from the same box, or between any two.
    fn may(&self, place: &Place, home: Option<usize>, within: &Within) -> bool {
        let is_home = || {
            let found = self.cover.box_of(&place.coordinates);
            home.map_or(found.is_some(), |home| found == Some(home))
        };
        place.missed() <= within.missed && (!self.cover.is_split() || is_home())
    }

    /// One move along every axis, in any order, moves in the directions between `others`, and jumps. Draws that are
    /// even among what is `within` stay so.
    pub(super) fn sweep(
        &self,
        space: &SearchSpace,
        place: &mut Place,
        others: &[Place],
        within: Within,
        draws: &mut Draws,
    ) {
        let home = self.home(place, draws);
        for _ in 0..self.free.len() {
            let axis = self.free[draws.below(self.free.len())];
            self.slide(space, place, (axis, home), &within, draws);
        }
        if self.ordered.len() > 1 && others.len() > 1 {
            for _ in 0..=self.ordered.len() / 8 {
                let first = draws.below(others.len());
                let second = draws.below(others.len());
                let towards = (&others[first], &others[second]);
                self.stride(space, place, (towards, home), &within, draws);
            }
        }
        if self.free.len() > 1 {
            for _ in 0..JUMPS {
                self.jump(space, place, home, &within, draws);
            }
        }
        if self.cover.is_split() && within.near.is_none() {
            self.leap(space, place, &within, draws);
        }
    }

    /// To any other point of the cover, where that is within: from one of its boxes to another.
    fn leap(&self, space: &SearchSpace, place: &mut Place, within: &Within, draws: &mut Draws) {
        let mut other = self.drawn(space, draws);
        other.spent_ns += place.spent_ns;
        match other.missed() <= within.missed {
            true => *place = other,
            false => place.spent_ns = other.spent_ns,
        }
    }

    /// To any other place on two axes at once, where that is within: between what no single step leads (`a * b ==
    /// 512`).
    fn jump(
        &self,
        space: &SearchSpace,
        place: &mut Place,
        home: Option<usize>,
        within: &Within,
        draws: &mut Draws,
    ) {
        let axes = [0; 2].map(|_| self.free[draws.below(self.free.len())]);
        let from = axes.map(|axis| place.coordinates[axis]);
        for axis in axes {
            let (low, high) = self.part(home, axis, within);
            self.put(space, place, axis, low + (high - low) * draws.unit());
        }
        if !self.may(place, home, within) {
            for (axis, from) in axes.into_iter().zip(from).rev() {
                self.put(space, place, axis, from);
            }
        }
    }

    /// Along an axis.
    fn slide(
        &self,
        space: &SearchSpace,
        place: &mut Place,
        (axis, home): (usize, Option<usize>),
        within: &Within,
        draws: &mut Draws,
    ) {
        let from = place.coordinates[axis];
        let (mut low, mut high) = self.part(home, axis, within);
        for _ in 0..MAX_SHRINKS {
            let to = low + (high - low) * draws.unit();
            self.put(space, place, axis, to);
            if self.may(place, home, within) {
                return;
            }
            match to < from {
                true => low = to,
                false => high = to,
            }
        }
        self.put(space, place, axis, from);
    }

    fn put(&self, space: &SearchSpace, place: &mut Place, axis: usize, to: f64) {
        place.coordinates[axis] = to;
        place.set_values(space, &self.moved[axis]);
        self.judge(place, self.judged[axis].iter().copied());
    }

    /// In the direction from one point to another, as far as that leads within the cube.
    fn stride(
        &self,
        space: &SearchSpace,
        place: &mut Place,
        (towards, home): ((&Place, &Place), Option<usize>),
        within: &Within,
        draws: &mut Draws,
    ) {
        let from = place.coordinates.clone();
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut direction = Vec::with_capacity(self.ordered.len());
        for &axis in &self.ordered {
            let step = towards.1.coordinates[axis] - towards.0.coordinates[axis];
            if step.abs() < STILL {
                continue;
            }
            let (least, most) = self.part(home, axis, within);
            let ends = ((least - from[axis]) / step, (most - from[axis]) / step);
            low = f64::max(low, f64::min(ends.0, ends.1));
            high = f64::min(high, f64::max(ends.0, ends.1));
            direction.push((axis, step));
        }
        if direction.is_empty() {
            return;
        }
        for _ in 0..MAX_SHRINKS {
            let length = low + (high - low) * draws.unit();
            self.put_all(space, place, &direction, &from, length);
            if self.may(place, home, within) {
                return;
            }
            match length < 0.0 {
                true => low = length,
                false => high = length,
            }
        }
        self.put_all(space, place, &direction, &from, 0.0);
    }

    fn put_all(
        &self,
        space: &SearchSpace,
        place: &mut Place,
        direction: &[(usize, f64)],
        from: &[f64],
        length: f64,
    ) {
        for (axis, step) in direction {
            place.coordinates[*axis] = (from[*axis] + length * step).clamp(0.0, 1.0);
        }
        place.set_values(space, space.parents_first());
        self.judge(place, 0..self.demands.len());
    }
}

impl Place {
    /// Makes the values of these hyperparameters anew, parents before children.
    fn set_values(&mut self, space: &SearchSpace, axes: &[usize]) {
        for &axis in axes {
            let parameter = &space.parameters()[axis];
            let mut conditions = parameter.conditions.iter();
            let is_active = conditions.all(|condition| {
                let parent = self.values[condition.parent].as_ref();
                parent.is_some_and(|value| condition.holds(value))
            });
            self.values[axis] = is_active.then(|| parameter.domain.at(self.coordinates[axis]));
        }
        self.spent_ns += VALUE_NS * axes.len() as u64;
    }
}

/// A hyperparameter and all whose being active depends on it, parents before children.
fn dependents(space: &SearchSpace, axis: usize) -> Vec<usize> {
    let mut found = vec![axis];
    for &other in space.parents_first() {
        let conditions = &space.parameters()[other].conditions;
        if conditions
            .iter()
            .any(|condition| found.contains(&condition.parent))
        {
            found.push(other);
        }
    }
    found
}
