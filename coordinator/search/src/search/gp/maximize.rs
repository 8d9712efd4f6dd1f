//! Where the expected improvement is greatest: many points are scored, the best of them climb.

use std::collections::BTreeSet;

use trainyard_common::rng::Key;

use super::super::axes::{Axes, Kind};
use super::super::sequence::Sequence;
use super::kernel::{Layout, Shape};
use super::lbfgs::{Stop, minimize};
use super::posterior::Posterior;

/// Axes of up to so many values are walked value by value; ordered ones of more climb as if continuous first.
const FEW: u64 = 6;

/// Rounds of climbing and of trying other values.
const ROUNDS: usize = 3;

/// One of so many candidates at least meets the constraints, however few points do.
const FILLED: usize = 4;

/// Two starts whose squared distance in the unit cube is below this (and that have the same categories)
/// would climb the same hill.
const APART: f64 = 1e-4;

/// How much work a proposal may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) spread: usize,
    pub(super) near: usize,
    pub(super) starts: usize,
    pub(super) steps: usize,
}

impl Effort {
    /// A candidate costs n^2 / 2 operations, a step of a climb twice that: fewer of them for more rows.
    pub(super) fn for_rows(rows: usize) -> Self {
        let share = |most: usize, least: usize| (most * 150 / rows.max(150)).max(least);
        Self {
            spread: share(250, 64),
            near: share(250, 64),
            starts: share(6, 3),
            steps: share(25, 12),
        }
    }
}

/// What the search for a maximum needs to know.
pub(super) struct Search<'a> {
    pub(super) axes: &'a Axes,
    pub(super) layout: &'a Layout,
    pub(super) posterior: &'a Posterior,
    /// Points that must not be proposed again, by their bits.
    pub(super) taken: &'a BTreeSet<Vec<u64>>,
    /// The best points so far, best first.
    pub(super) best: &'a [Vec<f64>],
    /// Coordinates that the proposal must have.
    pub(super) focus: &'a [(usize, f64)],
    pub(super) key: Key,
}

/// A point's bits, one pattern for NaN.
pub(super) fn bits(point: &[f64]) -> Vec<u64> {
    let bits = |place: &f64| {
        if place.is_nan() {
            u64::MAX
        } else {
            place.to_bits()
        }
    };
    point.iter().map(bits).collect()
}

impl Search<'_> {
    /// The best settled point that is allowed and not taken; `None` where none was found.
    pub(super) fn run(&self, effort: Effort) -> Option<Vec<f64>> {
        let mut points = self.spread(effort.spread);
        let spread = points.len();
        points.extend(self.near(effort.near));
        let scores = self.scores(&points);
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        let mut found: Option<(f64, Vec<f64>)> = None;
        for at in self.starts(&points, &order, spread, effort.starts) {
            let (score, point) = self.climb(points[at].clone(), scores[at], effort.steps);
            let better = found.as_ref().is_none_or(|(best, _)| score > *best);
            if better {
                found = Some((score, point));
            }
        }
        found.map(|(_, point)| point)
    }

    /// The best of listed points.
    pub(super) fn best_of(&self, points: Vec<Vec<f64>>) -> Option<Vec<f64>> {
        let scores = self.scores(&points);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for (point, score) in points.into_iter().zip(scores) {
            if best.as_ref().is_none_or(|(best, _)| score > *best) {
                best = Some((score, point));
            }
        }
        best.map(|(_, point)| point)
    }

    /// Whether a settled point may be proposed.
    fn fits(&self, point: &[f64]) -> bool {
        let mut focus = self.focus.iter();
        let focused = focus.all(|(axis, place)| point[*axis] == *place);
        focused && !self.taken.contains(&bits(point)) && self.axes.allows(point)
    }

    fn is_focused(&self, axis: usize) -> bool {
        self.focus.iter().any(|(focused, _)| *focused == axis)
    }

    /// Points of the whole space.
    fn spread(&self, count: usize) -> Vec<Vec<f64>> {
        let sobol = Sequence::Sobol(self.key.named("spread"));
        let point = |index: usize| {
            let axes = 0..self.axes.axes().len();
            let mut point: Vec<f64> = axes.map(|axis| sobol.at(index as u64, axis)).collect();
            for (axis, place) in self.focus {
                point[*axis] = *place;
            }
            self.axes.settle(&mut point);
            point
        };
        let points = self.distinct((0..count).map(point));
        self.filled(points, count, |key| self.axes.draw_rare(key))
    }

    /// Where the constraints refuse most points: with a share of those that are led to what meets them.
    fn filled(
        &self,
        mut points: Vec<Vec<f64>>,
        count: usize,
        draw: impl Fn(Key) -> Option<Vec<f64>>,
    ) -> Vec<Vec<f64>> {
        let key = self.key.named("filled");
        let wanted = (count / FILLED).saturating_sub(points.len()) as u64;
        let more = (0..wanted).map_while(|at| draw(key.with(at)));
        points.extend(more.filter(|point| self.fits(point)));
        points
    }

    /// Points near the best ones, at distances of many magnitudes.
    fn near(&self, count: usize) -> Vec<Vec<f64>> {
        let key = self.key.named("near");
        let draws = (0..count).filter_map(|index| {
            // The best point gets about half of them.
            let rank =
                (0..self.best.len()).find(|rank| key.with(index as u64).unit(*rank as u64) < 0.5);
            let centre = self.best.get(rank.unwrap_or(0))?;
            Some(self.mutant(centre, key.with(index as u64).named("mutant")))
        });
        let points = self.distinct(draws);
        self.filled(points, count, |key| {
            let rank = key.below(0, self.best.len() as u64) as usize;
            let width = libm::exp(-9.0 * key.unit(1)) * 0.5;
            self.axes.vary_allowed(self.best.get(rank)?, width, key)
        })
    }

    fn mutant(&self, centre: &[f64], key: Key) -> Vec<f64> {
        let (places, choices) = (key.with(1), key.with(2));
        let width = libm::exp(-9.0 * key.unit(0)) * 0.5;
        let share = if key.unit(1) < 0.5 { 1.0 } else { 0.3 };
        let mut point = centre.to_vec();
        for (at, dimension) in self.layout.dimensions.iter().enumerate() {
            let (position, at) = (dimension.axis, at as u64);
            let axis = &self.axes.axes()[position];
            let place = point[position];
            point[position] = match axis.kind {
                _ if place.is_nan() => places.with(3).unit(at),
                Kind::Unordered { .. } if choices.unit(at) < 0.15 => places.unit(at),
                Kind::Unordered { .. } | Kind::Fixed => place,
                _ if choices.unit(at) >= share => place,
                Kind::Ordered { cells } => {
                    let width = f64::max(width, 1.0 / cells as f64);
                    folded(place + width * places.normal(at))
                }
                Kind::Continuous => folded(place + width * places.normal(at)),
            };
        }
        for (axis, place) in self.focus {
            point[*axis] = *place;
        }
        self.axes.settle(&mut point);
        point
    }

    fn distinct(&self, points: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
        let mut seen = BTreeSet::new();
        let fits = |point: &Vec<f64>| self.fits(point) && seen.insert(bits(point));
        points.filter(fits).collect()
    }

    fn scores(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let features: Vec<Vec<f64>> = points.iter().map(|p| self.layout.embed(p)).collect();
        self.posterior.scores(&features)
    }

    /// The best points of different hills, the best of the whole space and the best of those nearby among them.
    fn starts(
        &self,
        points: &[Vec<f64>],
        order: &[usize],
        spread: usize,
        count: usize,
    ) -> Vec<usize> {
        let first_far = order.iter().copied().find(|at| *at < spread);
        let first_near = order.iter().copied().find(|at| *at >= spread);
        let mut chosen: Vec<usize> = first_far.into_iter().chain(first_near).collect();
        for at in order {
            if chosen.len() >= count {
                break;
            }
            let apart = |other: &usize| self.squared(&points[*at], &points[*other]) > APART;
            if chosen.iter().all(apart) {
                chosen.push(*at);
            }
        }
        chosen
    }

    fn squared(&self, a: &[f64], b: &[f64]) -> f64 {
        let (a, b) = (self.layout.embed(a), self.layout.embed(b));
        let along = self.layout.dimensions.iter();
        along.map(|d| Layout::squared(*d, &a, &b)).sum()
    }

    /// Climbs along numbers, then tries other values of the rest, and again while that helps.
    fn climb(&self, mut point: Vec<f64>, mut score: f64, steps: usize) -> (f64, Vec<f64>) {
        for _ in 0..ROUNDS {
            self.ascend(&mut point, &mut score, steps);
            if !self.step_through_values(&mut point, &mut score) {
                break;
            }
        }
        (score, point)
    }

    /// Follows the gradient along the active numbers, then settles.
    fn ascend(&self, point: &mut Vec<f64>, score: &mut f64, steps: usize) {
        let smooth = |axis: usize| match self.axes.axes()[axis].kind {
            Kind::Continuous => true,
            Kind::Ordered { cells } => cells > FEW,
            _ => false,
        };
        let dimensions = self.layout.dimensions.iter().enumerate();
        let moving: Vec<(usize, usize)> = dimensions
            .filter(|(_, d)| d.shape != Shape::Overlap && smooth(d.axis) && !point[d.axis].is_nan())
            .filter(|(_, d)| !self.is_focused(d.axis))
            .map(|(at, d)| (at, d.axis))
            .collect();
        let mut x: Vec<f64> = moving.iter().map(|(_, axis)| point[*axis]).collect();
        let mut whole = vec![0.0; self.layout.dimensions.len()];
        let mut at = point.clone();
        let stop = Stop {
            steps,
            decrease: 1e-4,
            gradient: 1e-5,
        };
        minimize(
            &mut x,
            &vec![(0.0, 1.0); moving.len()],
            stop,
            |x, gradient| {
                for ((_, axis), x) in moving.iter().zip(x) {
                    at[*axis] = *x;
                }
                if !self.axes.allows(&at) {
                    return f64::INFINITY;
                }
                let value = self.posterior.slope(&self.layout.embed(&at), &mut whole);
                for ((dimension, _), slope) in moving.iter().zip(gradient) {
                    *slope = -whole[*dimension];
                }
                -value
            },
        );
        for ((_, axis), x) in moving.iter().zip(&x) {
            at[*axis] = *x;
        }
        self.axes.settle(&mut at);
        self.keep_better(vec![at], point, score);
    }

    /// Every other value of each axis that has few, neighbours where it has many.
    fn step_through_values(&self, point: &mut Vec<f64>, score: &mut f64) -> bool {
        let mut moved = false;
        for dimension in &self.layout.dimensions {
            let axis = &self.axes.axes()[dimension.axis];
            let place = point[dimension.axis];
            let (Kind::Ordered { cells } | Kind::Unordered { cells }) = axis.kind else {
                continue;
            };
            if place.is_nan() || self.is_focused(dimension.axis) {
                continue;
            }
            let places: Vec<f64> = if cells <= FEW {
                (0..cells).map(|cell| axis.middle(cell)).collect()
            } else if dimension.shape == Shape::Overlap {
                let key = self.key.named("values").with(dimension.axis as u64);
                (0..FEW).map(|at| key.unit(at)).collect()
            } else {
                let width = 1.0 / cells as f64;
                [-3.0, -1.0, 1.0, 3.0]
                    .map(|cells| place + cells * width)
                    .to_vec()
            };
            let other = |to: &f64| {
                let mut other = point.clone();
                other[dimension.axis] = *to;
                self.axes.settle(&mut other);
                other
            };
            let others = self.distinct(places.iter().map(other));
            moved |= self.keep_better(others, point, score);
        }
        moved
    }

    /// Goes to the best of some points where that is better than here.
    fn keep_better(&self, others: Vec<Vec<f64>>, point: &mut Vec<f64>, score: &mut f64) -> bool {
        let mut moved = false;
        let scores = self.scores(&others);
        for (other, there) in others.into_iter().zip(scores) {
            if there > *score && self.fits(&other) {
                (*point, *score, moved) = (other, there, true);
            }
        }
        moved
    }
}

/// Back into [0, 1], mirrored at the ends.
fn folded(place: f64) -> f64 {
    let inside = if place < 0.0 { -place } else { place };
    let inside = if inside > 1.0 { 2.0 - inside } else { inside };
    inside.clamp(0.0, 1.0)
}
