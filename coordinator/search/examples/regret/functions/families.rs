//! Families of functions: the run's seed draws the member, so that no searcher can be fitted to one of them.

use std::f64::consts::PI;

use serde_json::{Value, json};
use trainyard_common::rng::Key;
use trainyard_common::spec::Params;

use super::{Stream, double, int, log_double, log_int, number, numbers, when, word};

fn square(x: f64) -> f64 {
    x * x
}

/// Turned by reflections (Householder) at planes that the key draws.
fn turned(mut z: Vec<f64>, key: Key) -> Vec<f64> {
    for plane in 0..3 {
        let normal: Vec<f64> = (0..z.len() as u64)
            .map(|at| key.with(plane).normal(at))
            .collect();
        let length: f64 = normal.iter().map(|n| n * n).sum();
        let along: f64 = normal.iter().zip(&z).map(|(n, z)| n * z).sum();
        for (z, n) in z.iter_mut().zip(&normal) {
            *z -= 2.0 * along / length * n;
        }
    }
    z
}

/// Five wells of different widths along the axes; the deepest (1) is seldom the widest. Minimum -1.
pub(crate) fn wells(params: &Params, seed: u64) -> f64 {
    let x = numbers(params, 'x');
    let depth = |well: u64| {
        let key = Key::new(seed).named("wells").with(well);
        let squared = x.iter().zip(0u64..).map(|(x, at)| {
            let width = 0.15 + 0.35 * key.with(1).unit(at);
            square((x - 0.1 - 0.8 * key.with(2).unit(at)) / width)
        });
        (1.0 - 0.06 * well as f64) * libm::exp(-0.5 * squared.sum::<f64>())
    };
    -(0..5).map(depth).fold(0.0, f64::max)
}

/// A turned bowl with ripples. Minimum 0, at a place that the seed draws.
pub(crate) fn ripples(params: &Params, seed: u64) -> f64 {
    let key = Key::new(seed).named("ripples");
    let from = |(x, at): (&f64, u64)| x - 0.15 - 0.7 * key.unit(at);
    let x = numbers(params, 'x');
    let z = turned(x.iter().zip(0..).map(from).collect(), key);
    let terms = z.iter().zip(0u32..).map(|(z, at)| {
        let steep = 1.0 + 3.0 * f64::from(at % 3);
        steep * z * z + 0.08 * (1.0 - libm::cos(8.0 * PI * z / steep.sqrt()))
    });
    terms.sum()
}

/// Three combinations of many axes matter. Minimum 0.
pub(crate) fn hidden(params: &Params, seed: u64) -> f64 {
    let key = Key::new(seed).named("hidden");
    let x = numbers(params, 'x');
    let from = |(x, at): (&f64, u64)| x - 0.2 - 0.6 * key.unit(at);
    let z: Vec<f64> = x.iter().zip(0..).map(from).collect();
    let along = |which: u64| -> f64 {
        let weights = (0..z.len() as u64).map(|at| {
            let key = key.with(which);
            if key.with(7).unit(at) < 0.4 {
                key.normal(at)
            } else {
                0.0
            }
        });
        z.iter().zip(weights).map(|(z, w)| z * w).sum()
    };
    let (a, b, c) = (along(1), along(2), along(3));
    let all: f64 = z.iter().map(|z| z * z).sum();
    let ripple = 0.3 * (1.0 - libm::cos(3.0 * PI * b));
    square(a - square(b)) + square(b) + 0.5 * square(c) + ripple + 0.1 * all
}

pub(crate) fn hidden_noisy(params: &Params, seed: u64) -> f64 {
    let noise = Stream::new(seed, numbers(params, 'x'), 0).normal();
    hidden(params, seed) + 0.1 * noise
}

const WAVES: u64 = 80;

fn path_at(x: &[f64], seed: u64) -> f64 {
    let key = Key::new(seed).named("path");
    let wave = |wave: u64| {
        let key = key.with(wave);
        // Student's t with five degrees of freedom: the spectrum of a Matern kernel of 5/2.
        let chi: f64 = (10..15).map(|at| square(key.normal(at))).sum();
        let tail = (5.0 / chi).sqrt() / 0.25;
        let phase: f64 = x
            .iter()
            .zip(0u64..)
            .map(|(x, at)| tail * key.normal(at) * x)
            .sum();
        libm::cos(phase + 2.0 * PI * key.unit(99))
    };
    (0..WAVES).map(wave).sum::<f64>() * (2.0 / WAVES as f64).sqrt()
}

/// A path of a Gaussian process with length scales of a quarter.
pub(crate) fn path(params: &Params, seed: u64) -> f64 {
    path_at(&numbers(params, 'x'), seed)
}

/// By many draws, the best of which are refined.
pub(crate) fn path_minimum(seed: u64) -> f64 {
    let key = Key::new(seed).named("path minimum");
    let draw = |at: u64| [0, 1, 2].map(|axis| key.with(at).unit(axis));
    let mut found: Vec<(f64, [f64; 3])> = (0..3_000)
        .map(draw)
        .map(|x| (path_at(&x, seed), x))
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.truncate(6);
    for (best, x) in &mut found {
        let mut width = 0.05;
        while width > 1e-6 {
            let mut moved = false;
            for axis in 0..3 {
                for step in [-width, width] {
                    let mut other = *x;
                    other[axis] = (other[axis] + step).clamp(0.0, 1.0);
                    let there = path_at(&other, seed);
                    if there < *best {
                        (*best, *x, moved) = (there, other, true);
                    }
                }
            }
            if !moved {
                width *= 0.5;
            }
        }
    }
    found
        .iter()
        .map(|(best, _)| *best)
        .fold(f64::INFINITY, f64::min)
}

pub(crate) fn training_space() -> Value {
    json!({
        "lr": log_double(1e-6, 1.0),
        "wd": log_double(1e-7, 1e-1),
        "batch": log_int(8, 1024),
        "warmup": double(0.0, 0.3),
        "layers": int(1, 12),
        "dropout": double(0.0, 0.8),
    })
}

/// A classifier's loss: no number where the learning rate is too high for the depth, chance where it is too
/// low, a valley between. Minimum 0.
pub(crate) fn training(params: &Params, seed: u64) -> f64 {
    let key = Key::new(seed).named("training");
    let lr = libm::log10(number(params, "lr"));
    let batch = libm::log2(number(params, "batch"));
    let layers = number(params, "layers");
    let best_layers = 3.0 + key.below(1, 8) as f64;
    // Powers of two and whole depths: the minimum is in the space.
    let best_batch = 4.0 + key.below(2, 5) as f64;
    let best = -4.0 + 2.0 * key.unit(3);
    let shift = 0.15 * (batch - best_batch) - 0.08 * (layers - best_layers);
    let rate = lr - best - shift;
    let warmup = number(params, "warmup") - 0.05 - 0.2 * key.unit(4);
    if rate > 0.8 + 3.0 * warmup.max(-0.15) {
        return f64::NAN;
    }
    let decay = libm::log10(number(params, "wd")) + 3.0 + 2.0 * key.unit(5);
    let dropout = number(params, "dropout") - 0.1 - 0.4 * key.unit(6);
    let q = square(rate / if rate > 0.0 { 0.35 } else { 0.9 })
        + square((decay + 0.4 * rate) / 2.0)
        + square((layers - best_layers) / 5.0)
        + square(dropout / 0.4)
        + square((batch - best_batch) / 5.0)
        + square(warmup / 0.3);
    2.0 * (1.0 - libm::exp(-q))
}

pub(crate) fn families_space() -> Value {
    json!({
        "family": {"type": "categorical", "vals": ["forest", "boosting", "net"]},
        "scale": double(0.0, 1.0),
        "trees": when(log_int(10, 1000), "family", "forest"),
        "depth": when(int(1, 16), "family", "forest"),
        "eta": when(log_double(1e-3, 1.0), "family", "boosting"),
        "rounds": when(log_int(10, 2000), "family", "boosting"),
        "leaves": when(int(2, 64), "family", "boosting"),
        "optimizer": when(json!({"type": "categorical", "vals": ["sgd", "adam"]}), "family", "net"),
        "lr": when(log_double(1e-5, 1.0), "family", "net"),
        "units": when(log_int(16, 1024), "family", "net"),
        "momentum": when(double(0.0, 0.99), "optimizer", "sgd"),
        "decay": when(log_double(1e-4, 1e-1), "optimizer", "adam"),
    })
}

/// Three branches, one with two of its own; the seed draws their order and where each is best. Minimum 0.
pub(crate) fn families(params: &Params, seed: u64) -> f64 {
    let key = Key::new(seed).named("families");
    let place = |name: &str, at: u64, low: f64, high: f64| {
        let best = 0.15 + 0.7 * key.with(1).unit(at);
        (number(params, name) - low) / (high - low) - best
    };
    let log_place = |name: &str, at: u64, low: f64, high: f64| {
        let best = 0.15 + 0.7 * key.with(1).unit(at);
        libm::log(number(params, name) / low) / libm::log(high / low) - best
    };
    let scale = square(number(params, "scale") - 0.2 - 0.6 * key.with(1).unit(9));
    let first = key.below(5, 4);
    let offset = |branch: u64| 0.05 * ((branch + 4 - first) % 4) as f64;
    // A whole number's nearest value is close enough to the best place for a factor of this size.
    let (branch, q) = match word(params, "family") {
        "forest" => {
            let (trees, depth) = (
                log_place("trees", 0, 10.0, 1000.0),
                place("depth", 1, 1.0, 16.0),
            );
            (0, 3.0 * square(trees) + 8.0 * square(depth.round_to(15.0)))
        }
        "boosting" => {
            let (eta, rounds) = (
                log_place("eta", 2, 1e-3, 1.0),
                log_place("rounds", 3, 10.0, 2000.0),
            );
            let leaves = place("leaves", 4, 2.0, 64.0);
            (
                1,
                20.0 * square(eta + 0.8 * rounds) + 4.0 * square(rounds) + 4.0 * square(leaves),
            )
        }
        _ => {
            let (lr, units) = (
                log_place("lr", 5, 1e-5, 1.0),
                log_place("units", 6, 16.0, 1024.0),
            );
            match word(params, "optimizer") {
                "sgd" => {
                    let momentum = place("momentum", 7, 0.0, 0.99);
                    (
                        2,
                        30.0 * square(lr + 0.5 * momentum)
                            + 3.0 * square(units)
                            + 6.0 * square(momentum),
                    )
                }
                _ => {
                    let decay = log_place("decay", 8, 1e-4, 1e-1);
                    (
                        3,
                        30.0 * square(lr - 0.1) + 3.0 * square(units) + 3.0 * square(decay),
                    )
                }
            }
        }
    };
    offset(branch) + 0.8 * (1.0 - libm::exp(-q - 3.0 * scale))
}

trait Round {
    fn round_to(self, cells: f64) -> f64;
}

impl Round for f64 {
    /// To the middle of one of so many cells around zero.
    fn round_to(self, cells: f64) -> f64 {
        if self.abs() < 0.5 / cells { 0.0 } else { self }
    }
}
