//! Boxes of the unit cube that together hold all that meets the constraints: one for each alternative of what may be
//! otherwise (`or`, `in`, a hyperparameter that is inactive), made as small as intervals make it.
//!
//! What is drawn evenly from them and meets the constraints is drawn evenly from all that does, each part by its size,
//! however far parts lie from each other and however small they are.

use super::super::constraint::{Bounds, Demand, Narrowing};
use super::super::{Parameter, SearchSpace};
use super::draws::Draws;
use crate::rng::Key;

/// Boxes at most: a point is compared with each.
const MAX_BOXES: usize = 64;

/// Times that every constraint narrows every box. Most have their ends after two; sums of many come closer slowly.
const ROUNDS: usize = 6;

/// Nodes of expressions and sides of boxes that are looked at: about 0.1 s.
const MAX_WORK: u64 = 5_000_000;

/// Two boxes become one if that is larger than both by no more than this.
const MERGED: f64 = 1.05;

/// Points by which boxes that overlap are measured.
const MEASURED: u64 = 2_000;

#[derive(Debug)]
pub(super) struct Cover {
    boxes: Vec<Bounds>,
    /// The one around all.
    around: Bounds,
    /// Of each box and all before it, as a share of all.
    upto: Vec<f64>,
    /// Natural logarithm of the share of the cube that is in a box.
    pub(super) ln_volume: f64,
}

impl Cover {
    /// The cube itself.
    pub(super) fn everything(axes: usize) -> Self {
        Self::of(vec![Bounds::everything(axes)], Key::new(0))
    }

    pub(super) fn new(space: &SearchSpace, demands: &[Demand], key: Key) -> Self {
        let axes = space.parameters().len();
        let mut work = Narrowing {
            parameters: space.parameters(),
            left: MAX_WORK,
        };
        let mut boxes = vec![Bounds::everything(axes)];
        for _ in 0..ROUNDS {
            let before = boxes.clone();
            for demand in demands {
                let sides = (boxes.len() * boxes.len() * axes) as u64;
                if work.left < sides {
                    return Self::of(boxes, key);
                }
                work.left -= sides;
                boxes = tidy(split(&mut work, demand, &boxes));
            }
            if boxes == before {
                break;
            }
        }
        match boxes.is_empty() {
            // Nothing meets them: whoever looks will not find it anywhere.
            true => Self::everything(axes),
            false => Self::of(boxes, key),
        }
    }

    fn of(boxes: Vec<Bounds>, key: Key) -> Self {
        let volumes: Vec<f64> = boxes.iter().map(ln_volume).collect();
        let largest = volumes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = volumes
            .iter()
            .map(|volume| libm::exp(volume - largest))
            .collect();
        let sum: f64 = shares.iter().sum();
        let upto = shares.iter().scan(0.0, |upto, share| {
            *upto += share / sum;
            Some(*upto)
        });
        let around = boxes.iter().skip(1);
        let around = around.fold(boxes[0].clone(), |around, other| around.hull(other));
        let mut cover = Self {
            around,
            upto: upto.collect(),
            ln_volume: largest + libm::log(sum),
            boxes,
        };
        if !cover.is_disjoint() {
            // Of each point its share, where several boxes have it.
            let drawn = (0..MEASURED).map(|draw| {
                let point = cover.proposed(&mut Draws::new(key.with(draw)));
                1.0 / cover.boxes_of(&point).count().max(1) as f64
            });
            cover.ln_volume += libm::log(drawn.sum::<f64>() / MEASURED as f64);
        }
        cover
    }

    fn is_disjoint(&self) -> bool {
        let mut pairs = (0..self.boxes.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        !pairs.any(|(a, b)| {
            let mut sides = self.boxes[a].0.iter().zip(&self.boxes[b].0);
            sides.all(|(a, b)| a.0 < b.1 && b.0 < a.1)
        })
    }

    /// Whether it has several boxes.
    pub(super) fn is_split(&self) -> bool {
        self.boxes.len() > 1
    }

    /// A point that is in a box, all as likely.
    pub(super) fn draw(&self, draws: &mut Draws) -> Vec<f64> {
        loop {
            let point = self.proposed(draws);
            if !self.is_split() {
                return point;
            }
            let shared = self.boxes_of(&point).count();
            if shared < 2 || draws.unit() * shared as f64 <= 1.0 {
                return point;
            }
        }
    }

    /// A point of a box that is chosen by its size.
    fn proposed(&self, draws: &mut Draws) -> Vec<f64> {
        let chosen = match self.is_split() {
            true => {
                let share = draws.unit();
                let chosen = self.upto.partition_point(|upto| *upto <= share);
                chosen.min(self.boxes.len() - 1)
            }
            false => 0,
        };
        let sides = self.boxes[chosen].0.iter();
        sides
            .map(|(low, high)| low + (high - low) * draws.unit())
            .collect()
    }

    fn boxes_of<'a>(&'a self, point: &'a [f64]) -> impl Iterator<Item = usize> + 'a {
        let boxes = self.boxes.iter().enumerate();
        let has = move |bounds: &Bounds| {
            let mut sides = bounds.0.iter().zip(point);
            sides.all(|((low, high), x)| low <= x && x <= high)
        };
        boxes
            .filter(move |(_, bounds)| has(bounds))
            .map(|(at, _)| at)
    }

    /// The first box that has a point.
    pub(super) fn box_of(&self, point: &[f64]) -> Option<usize> {
        self.boxes_of(point).next()
    }

    /// The part of an axis that a box has, or the one around all of them.
    pub(super) fn side(&self, at: Option<usize>, axis: usize) -> (f64, f64) {
        at.map_or(self.around.0[axis], |at| self.boxes[at].0[axis])
    }
}

fn ln_volume(bounds: &Bounds) -> f64 {
    bounds
        .0
        .iter()
        .map(|(low, high)| libm::log(high - low))
        .sum()
}

/// What a constraint leaves of these boxes.
fn split(work: &mut Narrowing<'_>, demand: &Demand, boxes: &[Bounds]) -> Vec<Bounds> {
    let left: Vec<Vec<Bounds>> = boxes
        .iter()
        .map(|bounds| allowed(work, demand, bounds))
        .collect();
    let count: usize = left.iter().map(Vec::len).sum();
    if count <= MAX_BOXES {
        return left.into_iter().flatten().collect();
    }
    // Too many to go on with: of each box one around what is left of it.
    let around = left
        .into_iter()
        .filter_map(|left| left.into_iter().reduce(|a, b| a.hull(&b)));
    around.collect()
}

/// What a constraint leaves of a box: what meets it, and where it does not apply.
fn allowed(work: &mut Narrowing<'_>, demand: &Demand, bounds: &Bounds) -> Vec<Bounds> {
    let parameters = work.parameters;
    let mut left = Vec::new();
    let mut applies = vec![bounds.clone()];
    for name in demand.names() {
        left.extend(inactive(parameters, *name, bounds));
        let active_in = applies
            .iter()
            .flat_map(|bounds| active(parameters, *name, bounds));
        applies = tidy(active_in.collect());
    }
    left.extend(applies.iter().flat_map(|bounds| work.split(demand, bounds)));
    if left.len() > MAX_BOXES {
        return left
            .into_iter()
            .reduce(|a, b| a.hull(&b))
            .into_iter()
            .collect();
    }
    tidy(left)
}

/// Where a hyperparameter is inactive.
fn inactive(parameters: &[Parameter], name: usize, bounds: &Bounds) -> Vec<Bounds> {
    let mut found = Vec::new();
    for condition in &parameters[name].conditions {
        let parent = &parameters[condition.parent].domain;
        found.extend(bounds.among(condition.parent, parent, |value| !condition.holds(value)));
        found.extend(inactive(parameters, condition.parent, bounds));
    }
    found
}

/// Where it is active.
fn active(parameters: &[Parameter], name: usize, bounds: &Bounds) -> Vec<Bounds> {
    let mut found = vec![bounds.clone()];
    for condition in &parameters[name].conditions {
        let parent = &parameters[condition.parent].domain;
        let has = |bounds: &Bounds| {
            bounds.among(condition.parent, parent, |value| condition.holds(value))
        };
        found = found.iter().flat_map(has).collect();
        found = found
            .iter()
            .flat_map(|bounds| active(parameters, condition.parent, bounds))
            .collect();
        found = tidy(found);
    }
    found
}

/// Without boxes that lie within others, and with one in place of two that are hardly smaller.
fn tidy(mut boxes: Vec<Bounds>) -> Vec<Bounds> {
    let mut at = 0;
    while at < boxes.len() {
        let merged = (0..at).find_map(|before| {
            let hull = boxes[before].hull(&boxes[at]);
            let both = libm::exp(ln_volume(&boxes[before]) - ln_volume(&hull))
                + libm::exp(ln_volume(&boxes[at]) - ln_volume(&hull));
            (both * MERGED >= 1.0 || hull == boxes[before] || hull == boxes[at])
                .then_some((before, hull))
        });
        match merged {
            Some((before, hull)) => {
                boxes.remove(at);
                boxes[before] = hull;
                // It may swallow others now.
                at = before;
            }
            None => at += 1,
        }
    }
    boxes
}
