//! PB2: population based bandits (Parker-Holder, Nguyen and Roberts 2020, "Provably Efficient Online
//! Hyperparameter Optimization with Population-Based Bandits").
//!
//! What a stretch of training gains is a function of time and hyperparameters, modelled by a Gaussian
//! process with the paper's kernel k((x, t), (x', t')) = exp(-|x - x'|^2 / 2 l^2) (1 - e)^(|t - t'| / 2).
//! New numbers maximize mean + sqrt(beta) * deviation; for the deviation, what other members train with at
//! the moment counts as observed. Numbers are places on the unit axes of the space; categoricals and
//! ordinals are varied as in PBT.
//!
//! The model is small: the newest points only, and its three constants from a grid by their likelihood.

use std::collections::VecDeque;

use trainyard_common::rng::Key;
use trainyard_common::space::Domain;
use trainyard_common::spec::Params;

use crate::search::axes::{Axes, Kind};

/// Points that the model is made of, the newest: the cost of a fit grows with their third power.
const MAX_POINTS: usize = 100;

/// With fewer there is nothing to model yet.
const MIN_POINTS: usize = 4;

/// Candidates drawn over the space, and around the best of them in each of the rounds, ever closer.
const DRAWN: u64 = 128;
const ROUNDS: u64 = 4;
const NEAR: u64 = 16;

/// The grid of constants: length over the diagonal of the cube, `e` of the kernel, variance of the noise.
const LENGTHS: [f64; 4] = [0.1, 0.2, 0.4, 0.8];
const FORGETTING: [f64; 3] = [0.0, 0.05, 0.2];
const NOISE: [f64; 3] = [0.01, 0.1, 0.5];

/// beta_t = C1 + ln(C2 * t), as the authors' code has it.
const C1: f64 = 0.2;
const C2: f64 = 0.4;

/// Rows after which it is looked whether a candidate can still be better than the best, and the variance that rounding
/// may have hidden by then: more than a thousand rows' last bits come to.
const LOOK_EVERY: usize = 16;
const ROUNDING: f64 = 1e-9;

/// Added to the diagonal, so that equal points can be factored.
const JITTER: f64 = 1e-8;

#[derive(Debug, Clone, PartialEq)]
struct Point {
    /// Places of the numbers on their axes; of an inactive one the middle.
    x: Vec<f64>,
    /// In stretches.
    time: f64,
}

/// What is known of gains.
#[derive(Debug, Clone, Default)]
pub(super) struct Bandit {
    points: VecDeque<Point>,
    gains: VecDeque<f64>,
    /// The constants that explain these best, once asked for.
    kernel: Option<Kernel>,
    /// Of the last choice: the next one's points begin with most of the same.
    held: Option<Held>,
}

impl Bandit {
    /// A stretch that began at `time` gained so much.
    pub(super) fn tell(&mut self, axes: &Axes, params: &Params, time: f64, gain: f64) {
        let Some(place) = axes.encode(params).filter(|_| gain.is_finite()) else {
            return;
        };
        let x = numbers(&dimensions(axes), &place);
        self.points.push_back(Point { x, time });
        self.gains.push_back(gain);
        self.kernel = None;
        if self.points.len() > MAX_POINTS {
            self.points.pop_front();
            self.gains.pop_front();
        }
    }

    /// Fits the model to what was told since, before choices are made.
    pub(super) fn prepare(&mut self) {
        if self.kernel.is_none() && self.points.len() >= MIN_POINTS {
            self.kernel = likeliest(&self.points, &self.gains);
        }
    }

    /// The configuration with the numbers that promise most from `time` on; all else is as in `base`.
    /// `None`: not enough is known yet, or there are no numbers to choose.
    pub(super) fn choose(
        &mut self,
        axes: &Axes,
        base: &Params,
        time: f64,
        others: &[&Params],
        key: Key,
    ) -> Option<Params> {
        let dimensions = dimensions(axes);
        let base = axes.encode(base)?;
        let kernel = self.kernel.filter(|_| !dimensions.is_empty())?;
        let places = others.iter().filter_map(|params| axes.encode(params));
        let pending: Vec<Point> = places
            .map(|place| Point {
                x: numbers(&dimensions, &place),
                time,
            })
            .collect();
        let held = self.held.take();
        let model = Model::new(kernel, (&self.points, &self.gains), pending, time, held)?;
        let beta = C1 + libm::log(C2 * self.points.len() as f64).max(0.0);
        let mut best: Option<(f64, Vec<f64>)> = None;
        let consider = |place: Vec<f64>, best: &mut Option<(f64, Vec<f64>)>| {
            let x = numbers(&dimensions, &place);
            let known = best.as_ref().map(|(known, _)| *known);
            let bound = model.better(&x, beta, known);
            if let Some(bound) = bound
                && axes.allows(&place)
            {
                *best = Some((bound, place));
            }
        };
        for number in 0..DRAWN {
            let key = key.with(number);
            let place = moved(axes, &dimensions, &base, |axis, _| key.unit(axis));
            consider(place, &mut best);
        }
        for round in 0..ROUNDS {
            let (_, center) = best.clone()?;
            // Deviations 1/8, 1/16... of the axis.
            let width = 0.125 / (1u64 << round) as f64;
            for number in 0..NEAR {
                let key = key.named("near").with(round).with(number);
                let near = |axis, place: f64| (place + width * key.normal(axis)).clamp(0.0, 1.0);
                consider(moved(axes, &dimensions, &center, near), &mut best);
            }
        }
        self.held = Some(model.held());
        best.map(|(_, place)| axes.decode(&place))
    }

    /// Products that a choice takes at most, beside so many others.
    pub(super) fn products(&self, others: usize) -> usize {
        if self.points.len() < MIN_POINTS {
            return 0;
        }
        let rows = self.points.len().saturating_add(others);
        let candidates = (DRAWN + ROUNDS * NEAR) as usize;
        candidates.saturating_mul(rows.saturating_mul(rows) / 2)
    }
}

/// The axes of numbers that can be chosen.
fn dimensions(axes: &Axes) -> Vec<usize> {
    let parameters = axes.space().parameters().iter().zip(axes.axes());
    let numeric = parameters.map(|(parameter, axis)| {
        let number = matches!(parameter.domain, Domain::Double { .. } | Domain::Int { .. });
        number && axis.kind != Kind::Fixed
    });
    let numbered = numeric.enumerate().filter(|(_, chosen)| *chosen);
    numbered.map(|(position, _)| position).collect()
}

fn numbers(dimensions: &[usize], place: &[f64]) -> Vec<f64> {
    let known = |axis: &usize| place.get(*axis).copied().filter(|x| !x.is_nan());
    dimensions
        .iter()
        .map(|axis| known(axis).unwrap_or(0.5))
        .collect()
}

/// The place with other numbers, settled.
fn moved(
    axes: &Axes,
    dimensions: &[usize],
    place: &[f64],
    to: impl Fn(u64, f64) -> f64,
) -> Vec<f64> {
    let mut place = place.to_vec();
    for &axis in dimensions {
        if let Some(x) = place.get_mut(axis) {
            *x = to(axis as u64, if x.is_nan() { 0.5 } else { *x });
        }
    }
    axes.settle(&mut place);
    place
}

/// A Gaussian process at a time, factored.
struct Model {
    points: Vec<Point>,
    kernel: Kernel,
    /// Of each point: what its time has of the covariance.
    faded: Vec<f64>,
    /// Of the observed points: the inverse of the covariance times the standardized gains.
    weights: Vec<f64>,
    /// The factor over observed and pending points.
    factor: Rows,
}

/// What a model was factored from, and its factor: rows depend on those before alone.
#[derive(Debug, Clone)]
struct Held {
    points: Vec<Point>,
    kernel: Kernel,
    factor: Rows,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Kernel {
    /// 1 / 2 l^2.
    scale: f64,
    /// -ln(1 - e) / 2.
    forgetting: f64,
    noise: f64,
}

impl Kernel {
    fn of(self, a: &Point, b: &Point) -> f64 {
        libm::exp(-squares(&a.x, &b.x) * self.scale) * libm::exp(-lag(a, b) * self.forgetting)
    }
}

fn squares(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum()
}

fn lag(a: &Point, b: &Point) -> f64 {
    (a.time - b.time).abs()
}

/// The constants of the grid that explain the gains best. `None`: the gains are beyond numbers.
fn likeliest(points: &VecDeque<Point>, gains: &VecDeque<f64>) -> Option<Kernel> {
    let gains = standardized(gains)?;
    let points: Vec<Point> = points.iter().cloned().collect();
    let diagonal = (points.first()?.x.len() as f64).sqrt();
    let forgetting = FORGETTING.map(|e| -0.5 * libm::log(1.0 - e));
    // Each factor of the kernel once: the exponentials cost the most.
    let distances = below(&points, |a, b| squares(&a.x, &b.x));
    let lags = below(&points, lag);
    let faded = forgetting.map(|rate| mapped(&lags, |lag| libm::exp(-lag * rate)));
    let mut best: Option<(f64, Kernel)> = None;
    for length in LENGTHS {
        let scale = 0.5 / (length * diagonal * length * diagonal);
        let near = mapped(&distances, |squares| libm::exp(-squares * scale));
        for (forgetting, faded) in forgetting.into_iter().zip(&faded) {
            let both = near.iter().zip(faded).map(|(a, b)| {
                let products = a.iter().zip(b).map(|(a, b)| a * b);
                products.collect()
            });
            let covariance: Rows = both.collect();
            for noise in NOISE {
                let likelihood = likelihood(&covariance, noise, &gains);
                if likelihood.is_some_and(|new| best.is_none_or(|(known, _)| new > known)) {
                    let kernel = Kernel {
                        scale,
                        forgetting,
                        noise,
                    };
                    best = likelihood.map(|likelihood| (likelihood, kernel));
                }
            }
        }
    }
    best.map(|(_, kernel)| kernel)
}

/// ln p(y) = -|L^-1 y|^2 / 2 - sum ln L_ii, but for a constant.
fn likelihood(covariance: &Rows, noise: f64, gains: &[f64]) -> Option<f64> {
    let factor = factored(covariance, noise)?;
    let half = forward(&factor, gains);
    let pivots = factor.iter().filter_map(|row| row.last());
    let volume: f64 = pivots.map(|pivot| libm::log(*pivot)).sum();
    Some(-0.5 * dot(&half, &half) - volume)
}

impl Model {
    /// `held`: of another model, whose rows stay as far as its points are these.
    fn new(
        kernel: Kernel,
        (points, gains): (&VecDeque<Point>, &VecDeque<f64>),
        pending: Vec<Point>,
        time: f64,
        held: Option<Held>,
    ) -> Option<Self> {
        let gains = standardized(gains)?;
        let mut points: Vec<Point> = points.iter().cloned().collect();
        points.extend(pending);
        let mut factor = held.map_or_else(Rows::new, |held| held.rows_for(kernel, &points));
        for (i, point) in points.iter().enumerate().skip(factor.len()) {
            let before = points.iter().take(i);
            let below: Vec<f64> = before.map(|other| kernel.of(other, point)).collect();
            append(&mut factor, &below, kernel.noise)?;
        }
        // The first rows are the factor over the observed points alone.
        let observed = factor.get(..gains.len())?;
        let lag = |point: &Point| libm::exp(-(point.time - time).abs() * kernel.forgetting);
        Some(Self {
            weights: backward(observed, forward(observed, &gains)),
            faded: points.iter().map(lag).collect(),
            points,
            kernel,
            factor,
        })
    }

    fn held(self) -> Held {
        Held {
            points: self.points,
            kernel: self.kernel,
            factor: self.factor,
        }
    }

    fn covariance(&self, row: usize, x: &[f64]) -> f64 {
        let (point, faded) = (&self.points[row], self.faded[row]);
        libm::exp(-squares(&point.x, x) * self.kernel.scale) * faded
    }

    /// Mean + sqrt(beta * variance) of the standardized gain at these numbers, if that is more than the best that is
    /// known. Each further row takes away from the variance: most candidates fall behind before the last.
    fn better(&self, x: &[f64], beta: f64, known: Option<f64>) -> Option<f64> {
        let observed = self.weights.len();
        let mut half: Vec<f64> = Vec::with_capacity(self.points.len());
        let near: Vec<f64> = (0..observed).map(|row| self.covariance(row, x)).collect();
        let mean = dot(&near, &self.weights);
        let mut explained = 0.0;
        for (row, entries) in self.factor.iter().enumerate() {
            if row % LOOK_EVERY == 0 {
                let left = (1.0_f64 - explained).max(0.0) + ROUNDING;
                if known.is_some_and(|known| mean + (beta * left).sqrt() <= known) {
                    return None;
                }
            }
            let here = near.get(row).copied();
            let here = here.unwrap_or_else(|| self.covariance(row, x));
            let pivot = entries.last().copied().unwrap_or(1.0);
            let solved = (here - dot(entries, &half)) / pivot;
            explained += solved * solved;
            half.push(solved);
        }
        let variance = (1.0 - dot(&half, &half)).max(0.0);
        let bound = mean + (beta * variance).sqrt();
        Some(bound).filter(|bound| known.is_none_or(|known| *bound > known))
    }
}

impl Held {
    /// The rows of the points that both begin with.
    fn rows_for(self, kernel: Kernel, points: &[Point]) -> Rows {
        let both = self.points.iter().zip(points);
        let same = both.take_while(|(a, b)| a == b).count();
        let mut rows = self.factor;
        rows.truncate(if self.kernel == kernel { same } else { 0 });
        rows
    }
}

/// Mean 0 and variance 1; all 0 where they are all the same.
fn standardized(values: &VecDeque<f64>) -> Option<Vec<f64>> {
    let n = values.len() as f64;
    let mean = values.iter().map(|x| x / n).sum::<f64>();
    let squares = values.iter().map(|x| (x - mean) * (x - mean) / n);
    let deviation = squares.sum::<f64>().sqrt();
    let scale = if deviation > 0.0 { deviation } else { 1.0 };
    let all: Vec<f64> = values.iter().map(|x| (x - mean) / scale).collect();
    all.iter().all(|x| x.is_finite()).then_some(all)
}

/// A lower triangle: row i has the columns 0 to i, or to i - 1.
type Rows = Vec<Vec<f64>>;

/// Of each point with those before it.
fn below(points: &[Point], of: impl Fn(&Point, &Point) -> f64) -> Rows {
    let row = |(i, point): (usize, &Point)| {
        let before = points.iter().take(i);
        before.map(|other| of(other, point)).collect()
    };
    points.iter().enumerate().map(row).collect()
}

fn mapped(rows: &Rows, to: impl Fn(f64) -> f64) -> Rows {
    let row = |row: &Vec<f64>| row.iter().map(|x| to(*x)).collect();
    rows.iter().map(row).collect()
}

/// The lower Cholesky factor of a covariance that is given without its diagonal, which is 1 and the noise.
fn factored(covariance: &Rows, noise: f64) -> Option<Rows> {
    let mut rows: Rows = Vec::with_capacity(covariance.len());
    for below in covariance {
        append(&mut rows, below, noise)?;
    }
    Some(rows)
}

/// One more row of a factor.
fn append(rows: &mut Rows, below: &[f64], noise: f64) -> Option<()> {
    let mut row = forward(rows, below);
    let left = 1.0 + noise + JITTER - dot(&row, &row);
    row.push(if left > 0.0 { left.sqrt() } else { return None });
    rows.push(row);
    Some(())
}

/// Solves L x = b.
fn forward(rows: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(b.len());
    for (row, b) in rows.iter().zip(b) {
        let pivot = row.last().copied().unwrap_or(1.0);
        x.push((b - dot(row, &x)) / pivot);
    }
    x
}

/// Solves L^T x = b.
fn backward(rows: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    for (i, row) in rows.iter().enumerate().rev() {
        let halves = b.split_at_mut_checked(i);
        let (Some((pivot, left)), Some((head, [x, ..]))) = (row.split_last(), halves) else {
            continue;
        };
        *x /= pivot;
        for (b, l) in head.iter_mut().zip(left) {
            *b -= l * *x;
        }
    }
    b
}

/// Over as many as the shorter has; four sums, so that additions need not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a, b) = (a.get(..n).unwrap_or(&[]), b.get(..n).unwrap_or(&[]));
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let [first, second, third, fourth] = sums;
    (first + second) + (third + fourth) + rest
}

#[cfg(test)]
mod tests;
