//! PB2: population based bandits (Parker-Holder, Nguyen and Roberts 2020, "Provably Efficient Online
//! Hyperparameter Optimization with Population-Based Bandits").
//!
//! What a stretch of training gains is a function of time and hyperparameters, modelled by a Gaussian
//! process with the paper's kernel k((x, t), (x', t')) = exp(-|x - x'|^2 / 2 l^2) * (1 - e)^(|t - t'| / 2).
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
        &self,
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
        let model = Model::new(kernel, &self.points, &self.gains, pending)?;
        let beta = C1 + libm::log(C2 * self.points.len() as f64).max(0.0);
        let mut best: Option<(f64, Vec<f64>)> = None;
        let consider = |place: Vec<f64>, best: &mut Option<(f64, Vec<f64>)>| {
            let x = numbers(&dimensions, &place);
            let (mean, variance) = model.predict(&Point { x, time });
            let bound = mean + (beta * variance).sqrt();
            if best.as_ref().is_none_or(|(known, _)| bound > *known) && axes.allows(&place) {
                *best = Some((bound, place));
            }
        };
        for number in 0..DRAWN {
            let key = key.with(number);
            let place = moved(axes, &dimensions, &base, |axis, _| key.unit(axis));
            consider(place, &mut best);
        }
        for round in 0..ROUNDS {
            let Some((_, center)) = best.clone() else {
                return None;
            };
            // Deviations 1/8, 1/16... of the axis.
            let width = 0.125 / (1u64 << round) as f64;
            for number in 0..NEAR {
                let key = key.named("near").with(round).with(number);
                let near = |axis, place: f64| (place + width * key.normal(axis)).clamp(0.0, 1.0);
                consider(moved(axes, &dimensions, &center, near), &mut best);
            }
        }
        best.map(|(_, place)| axes.decode(&place))
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

/// A Gaussian process, factored.
struct Model {
    points: Vec<Point>,
    kernel: Kernel,
    /// Of the observed points: the inverse of the covariance times the standardized gains.
    weights: Vec<f64>,
    /// The factor over observed and pending points.
    factor: Vec<Vec<f64>>,
}

#[derive(Debug, Clone, Copy)]
struct Kernel {
    /// 1 / 2 l^2.
    scale: f64,
    /// -ln(1 - e) / 2.
    forgetting: f64,
    noise: f64,
}

impl Kernel {
    fn of(self, a: &Point, b: &Point) -> f64 {
        let squares = a.x.iter().zip(&b.x).map(|(a, b)| (a - b) * (a - b));
        let distance: f64 = squares.sum();
        libm::exp(-distance * self.scale - (a.time - b.time).abs() * self.forgetting)
    }
}

/// The constants of the grid that explain the gains best. `None`: the gains are beyond numbers.
fn likeliest(points: &VecDeque<Point>, gains: &VecDeque<f64>) -> Option<Kernel> {
    let gains = standardized(gains)?;
    let points: Vec<Point> = points.iter().cloned().collect();
    let mut best: Option<(f64, Kernel)> = None;
    for kernel in kernels(points.first()?.x.len()) {
        let Some(factor) = factored(&points, kernel) else {
            continue;
        };
        // ln p(y) = -|L^-1 y|^2 / 2 - sum ln L_ii, but for a constant.
        let half = forward(&factor, &gains);
        let fit: f64 = half.iter().map(|x| x * x).sum();
        let pivots = factor.iter().filter_map(|row| row.last());
        let volume: f64 = pivots.map(|pivot| libm::log(*pivot)).sum();
        let likelihood = -0.5 * fit - volume;
        if best.is_none_or(|(known, _)| likelihood > known) {
            best = Some((likelihood, kernel));
        }
    }
    best.map(|(_, kernel)| kernel)
}

impl Model {
    fn new(
        kernel: Kernel,
        points: &VecDeque<Point>,
        gains: &VecDeque<f64>,
        pending: Vec<Point>,
    ) -> Option<Self> {
        let gains = standardized(gains)?;
        let mut points: Vec<Point> = points.iter().cloned().collect();
        points.extend(pending);
        // The first rows are the factor over the observed points alone.
        let factor = factored(&points, kernel)?;
        let observed = factor.get(..gains.len())?;
        Some(Self {
            weights: backward(observed, forward(observed, &gains)),
            points,
            kernel,
            factor,
        })
    }

    /// Mean and variance of the standardized gain.
    fn predict(&self, at: &Point) -> (f64, f64) {
        let known = self.points.iter();
        let covariance: Vec<f64> = known.map(|point| self.kernel.of(point, at)).collect();
        let terms = covariance.iter().zip(&self.weights).map(|(k, w)| k * w);
        let mean: f64 = terms.sum();
        let half = forward(&self.factor, &covariance);
        let explained: f64 = half.iter().map(|x| x * x).sum();
        (mean, (1.0 - explained).max(0.0))
    }
}

fn kernels(dimensions: usize) -> impl Iterator<Item = Kernel> {
    let diagonal = (dimensions as f64).sqrt();
    LENGTHS.into_iter().flat_map(move |length| {
        let length = length * diagonal;
        FORGETTING.into_iter().flat_map(move |e| {
            NOISE.into_iter().map(move |noise| Kernel {
                scale: 0.5 / (length * length),
                forgetting: -0.5 * libm::log(1.0 - e),
                noise,
            })
        })
    })
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

/// The lower Cholesky factor of the covariance, by rows.
fn factored(points: &[Point], kernel: Kernel) -> Option<Vec<Vec<f64>>> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for point in points {
        let known = points.iter().take(rows.len());
        let covariance: Vec<f64> = known.map(|other| kernel.of(other, point)).collect();
        let mut row = forward(&rows, &covariance);
        let explained: f64 = row.iter().map(|x| x * x).sum();
        let left = 1.0 + kernel.noise + JITTER - explained;
        row.push(if left > 0.0 { left.sqrt() } else { return None });
        rows.push(row);
    }
    Some(rows)
}

/// Solves L x = b.
fn forward(rows: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(b.len());
    for (row, b) in rows.iter().zip(b) {
        let known: f64 = row.iter().zip(&x).map(|(l, x)| l * x).sum();
        let pivot = row.get(x.len()).copied().unwrap_or(1.0);
        x.push((b - known) / pivot);
    }
    x
}

/// Solves L^T x = b.
fn backward(rows: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    for (i, row) in rows.iter().enumerate().rev() {
        let Some((pivot, below)) = row.split_last() else {
            continue;
        };
        let (head, tail) = b.split_at_mut(i);
        let Some(x) = tail.first_mut() else {
            continue;
        };
        *x /= pivot;
        for (b, l) in head.iter_mut().zip(below) {
            *b -= l * *x;
        }
    }
    b
}
