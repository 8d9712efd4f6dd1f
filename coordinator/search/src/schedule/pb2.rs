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
            let (_, center) = best.clone()?;
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
        libm::exp(-squares(a, b) * self.scale) * libm::exp(-lag(a, b) * self.forgetting)
    }
}

fn squares(a: &Point, b: &Point) -> f64 {
    let squares = a.x.iter().zip(&b.x).map(|(a, b)| (a - b) * (a - b));
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
    let distances = below(&points, squares);
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
        let covariance = below(&points, |a, b| kernel.of(a, b));
        let factor = factored(&covariance, kernel.noise)?;
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
        let half = forward(&self.factor, &covariance);
        let variance = (1.0 - dot(&half, &half)).max(0.0);
        (dot(&covariance, &self.weights), variance)
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
        let mut row = forward(&rows, below);
        let left = 1.0 + noise + JITTER - dot(&row, &row);
        row.push(if left > 0.0 { left.sqrt() } else { return None });
        rows.push(row);
    }
    Some(rows)
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
mod tests {
    use super::*;
    use serde_json::json;
    use trainyard_common::space::SearchSpace;
    use trainyard_common::spec::Space;

    fn point(x: f64, time: f64) -> Point {
        let x = vec![x];
        Point { x, time }
    }

    fn axes(space: serde_json::Value) -> Axes {
        let space: Space = serde_json::from_value(space).unwrap();
        Axes::new(SearchSpace::new(&space).unwrap())
    }

    /// One observation of gain g at (x, t): the mean is k g / (1 + noise), the variance 1 - k^2 / (1 + noise).
    /// Two that are alike and far from each other: gains +1 and -1, as if each were alone.
    #[test]
    fn predictions_are_those_of_the_closed_form() {
        let kernel = Kernel {
            scale: 0.5 / 0.04,
            forgetting: -0.5 * libm::log(1.0 - 0.19),
            noise: 0.25,
        };
        let points = VecDeque::from([point(0.1, 3.0), point(1e6, 3.0)]);
        let model = Model::new(kernel, &points, &VecDeque::from([5.0, 3.0]), vec![]).unwrap();
        // exp(-0.2^2 / (2 * 0.2^2)) * (1 - 0.19)^(2 / 2).
        let k = libm::exp(-0.5) * 0.81;
        let (mean, variance) = model.predict(&point(0.3, 5.0));
        assert!((mean - k / 1.25).abs() < 1e-6, "{mean}");
        assert!((variance - (1.0 - k * k / 1.25)).abs() < 1e-6, "{variance}");
        // What others train with lowers the deviation and leaves the mean.
        let pending = vec![point(0.3, 5.0)];
        let told = Model::new(kernel, &points, &VecDeque::from([5.0, 3.0]), pending).unwrap();
        let (same, smaller) = told.predict(&point(0.3, 5.0));
        assert_eq!(same, mean);
        // Conditioned once more: v - v^2 / (v + noise).
        let expected = variance - variance * variance / (variance + 0.25);
        assert!((smaller - expected).abs() < 1e-6, "{smaller} {expected}");
    }

    #[test]
    fn the_factor_gives_the_covariance_again() {
        let key = Key::new(1);
        let points: Vec<Point> = (0..23)
            .map(|i| point(key.unit(i), i as f64 / 3.0))
            .collect();
        let kernel = Kernel {
            scale: 3.0,
            forgetting: 0.1,
            noise: 0.1,
        };
        let covariance = below(&points, |a, b| kernel.of(a, b));
        let rows = factored(&covariance, 0.1).unwrap();
        for i in 0..23 {
            for j in 0..=i {
                let given = if i == j {
                    1.1 + JITTER
                } else {
                    covariance[i][j]
                };
                let again: f64 = (0..=j).map(|k| rows[i][k] * rows[j][k]).sum();
                assert!((again - given).abs() < 1e-12, "{i} {j}");
            }
        }
        // L L^T x = b.
        let b: Vec<f64> = (0..23).map(|i| key.unit(100 + i)).collect();
        let x = backward(&rows, forward(&rows, &b));
        for i in 0..23 {
            let row = (0..23).map(|j| {
                let k = if i == j {
                    1.1 + JITTER
                } else {
                    covariance[i.max(j)][i.min(j)]
                };
                k * x[j]
            });
            assert!((row.sum::<f64>() - b[i]).abs() < 1e-10);
        }
    }

    #[test]
    fn new_numbers_go_to_the_side_of_the_newest_gains_where_nobody_is() {
        let axes = axes(json!({
            "lr": {"type": "double", "minval": 1e-4, "maxval": 1, "log": true},
            "optimizer": {"type": "categorical", "vals": ["sgd", "adam"]},
        }));
        let params = |place: f64| axes.decode(&[place, 0.75]);
        let mut bandit = Bandit::default();
        let base = params(0.5);
        let chosen = bandit.choose(&axes, &base, 10.0, &[], Key::new(1));
        assert_eq!(chosen, None, "nothing is known");
        // Until time 20 the best is at 0.2, from then on at 0.8.
        for time in 0..40 {
            let best = if time < 20 { 0.2 } else { 0.8 };
            for number in 0..2 {
                let place = Key::new(time).unit(number);
                let gain = -(place - best) * (place - best);
                bandit.tell(&axes, &params(place), time as f64, gain);
            }
        }
        bandit.prepare();
        assert!(
            bandit.kernel.unwrap().forgetting > 0.0,
            "{:?}",
            bandit.kernel
        );
        for seed in 0..10 {
            let key = Key::new(seed);
            let chosen = bandit.choose(&axes, &base, 40.0, &[], key).unwrap();
            let place = axes.encode(&chosen).unwrap()[0];
            assert!(place > 0.6, "{place}");
            assert_eq!(chosen["optimizer"], "adam", "left as it was");
            // Ten are there already: it looks elsewhere.
            let others = vec![&chosen; 10];
            let other = bandit.choose(&axes, &base, 40.0, &others, key).unwrap();
            assert_ne!(other, chosen);
        }
    }
}
