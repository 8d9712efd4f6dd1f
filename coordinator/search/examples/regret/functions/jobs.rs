//! Functions on spaces as jobs have them: choices, conditions, whole numbers, logarithms.

use serde_json::{Map, Value, json};
use trainyard_common::rng::{mix, unit_f64};
use trainyard_common::spec::Params;

use super::{Stream, double, int, log_double, log_int, number, numbers, when, word};

pub(crate) fn mixed_space() -> Value {
    json!({
        "lr": log_double(1e-5, 1.0),
        "wd": log_double(1e-6, 1e-1),
        "layers": int(1, 8),
        "opt": {"type": "categorical", "vals": ["sgd", "momentum", "adam", "rmsprop"]},
        "momentum": when(double(0.0, 0.99), "opt", "momentum"),
        "one_minus_beta2": when(log_double(1e-4, 1e-1), "opt", "adam"),
    })
}

/// A net whose best learning rate depends on the optimizer, which has hyperparameters of its own.
pub(crate) fn mixed(params: &Params) -> f64 {
    let (lr, wd) = (number(params, "lr"), number(params, "wd"));
    let (u, v) = (libm::log10(lr), libm::log10(wd));
    let layers = number(params, "layers");
    let square = |x: f64| x * x;
    let (base, best, extra) = match word(params, "opt") {
        "sgd" => (0.10, -1.0, 0.0),
        "momentum" => {
            let momentum = number(params, "momentum");
            let best = -1.0 + libm::log10(1.0 - momentum);
            (0.03, best, 0.2 * square(momentum - 0.9))
        }
        "adam" => {
            let decay = libm::log10(number(params, "one_minus_beta2"));
            (0.0, -3.0, 0.05 * square(decay + 3.0))
        }
        _ => (0.05, -3.3, 0.0),
    };
    let off = u - (best - 0.1 * (layers - 4.0));
    let q = square(off / 0.8) + square((v + 4.0 + 0.5 * off) / 1.5) + square((layers - 5.0) / 3.0);
    base + extra + 1.0 - libm::exp(-q)
}

pub(crate) fn counting_space() -> Value {
    let bit = || json!({"type": "categorical", "vals": [0, 1]});
    let bits = (0..8).map(|axis| (format!("c{axis}"), bit()));
    let shares = (0..8).map(|axis| (format!("x{axis}"), double(0.0, 1.0)));
    Value::Object(bits.chain(shares).collect::<Map<_, _>>())
}

pub(crate) fn counting_truth(params: &Params) -> f64 {
    -params.values().filter_map(Value::as_f64).sum::<f64>()
}

/// Counting ones (Falkner et al. 2018, section 5.1): bits, and means of draws of so many coins.
pub(crate) fn counting(params: &Params, coins: u64, seed: u64) -> f64 {
    let (bits, shares) = (numbers(params, 'c'), numbers(params, 'x'));
    let both = bits.iter().chain(&shares).copied();
    let mut stream = Stream::new(seed, both, coins);
    let mut total: f64 = bits.iter().sum();
    for share in shares {
        let heads = (0..coins).filter(|_| stream.unit() < share).count();
        total += heads as f64 / coins as f64;
    }
    -total
}

pub(crate) fn network_space() -> Value {
    json!({
        "kind": {"type": "categorical", "vals": ["dense", "convolution"]},
        "lr": log_double(1e-5, 1.0),
        "batch": log_int(8, 512),
        "units": when(log_int(16, 1024), "kind", "dense"),
        "dropout": when(double(0.0, 0.7), "kind", "dense"),
        "channels": when(log_int(4, 256), "kind", "convolution"),
        "blocks": when(int(1, 12), "kind", "convolution"),
        "kernel": when(json!({"type": "ordinal", "vals": [1, 3, 5, 7]}), "kind", "convolution"),
    })
}

/// Two branches with hyperparameters of their own. The one that is better at its best (0, at lr = 0.003,
/// batch = 32, channels = 64, blocks = 7, kernel = 3) is worse nearly everywhere.
pub(crate) fn network(params: &Params) -> f64 {
    let log2 = |name: &str| libm::log2(number(params, name));
    let square = |x: f64| x * x;
    let rate = libm::log10(number(params, "lr")) - 0.3 * (log2("batch") - 5.0);
    let batch = 0.02 * square(log2("batch") - 5.0);
    let bowl = |q: f64| 1.0 - libm::exp(-q);
    if word(params, "kind") == "dense" {
        let size = square((log2("units") - 8.0) / 4.0);
        let dropout = square((number(params, "dropout") - 0.3) / 0.6);
        return 0.08 + 0.6 * bowl(square((rate + 2.0) / 2.0) + size + dropout + batch);
    }
    let blocks = number(params, "blocks");
    let rate = rate - libm::log10(0.003) + 0.1 * (blocks - 7.0);
    let size = square((log2("channels") - 6.0) / 2.5);
    let kernel = 0.3 * square((number(params, "kernel") - 3.0) / 2.0);
    bowl(square(rate / 0.9) + size + square((blocks - 7.0) / 4.0) + kernel + batch)
}

const CHOICES: [u64; 6] = [2, 3, 4, 5, 6, 8];

pub(crate) fn choices_space() -> Value {
    let vals = |cells: u64| (0..cells).map(|cell| format!("v{cell}"));
    let choice =
        |cells: &u64| json!({"type": "categorical", "vals": vals(*cells).collect::<Vec<_>>()});
    let named = CHOICES.iter().enumerate();
    let named = named.map(|(axis, cells)| (format!("k{axis}"), choice(cells)));
    Value::Object(named.collect::<Map<_, _>>())
}

/// Every choice and every pair of neighbours' choices has a worth of its own.
fn choices_at(cells: &[u64]) -> f64 {
    let worth = |table: u64, a: u64, b: u64| unit_f64(mix(mix(mix(table) ^ a) ^ b));
    let alone = cells
        .iter()
        .zip(0..)
        .map(|(cell, axis)| worth(axis, *cell, 0));
    let pairs = cells.windows(2).zip(100..);
    let pairs = pairs.map(|(pair, axis)| 0.5 * worth(axis, pair[0], pair[1]));
    alone.sum::<f64>() + pairs.sum::<f64>()
}

pub(crate) fn choices(params: &Params) -> f64 {
    let words = params.values().filter_map(Value::as_str);
    let cells = words.filter_map(|word| word[1..].parse().ok());
    choices_at(&cells.collect::<Vec<u64>>())
}

/// By looking at all 5,760 configurations.
pub(crate) fn choices_minimum() -> f64 {
    let count: u64 = CHOICES.iter().product();
    let cells = |mut index: u64| -> Vec<u64> {
        let digit = |cells: &u64| {
            let digit = index % cells;
            index /= cells;
            digit
        };
        CHOICES.iter().map(digit).collect()
    };
    let all = (0..count).map(|index| choices_at(&cells(index)));
    all.fold(f64::INFINITY, f64::min)
}

pub(crate) fn integer_space() -> Value {
    json!({
        "batch": log_int(1, 4096),
        "units": log_int(1, 2048),
        "steps": log_int(10, 100_000),
        "layers": int(1, 20),
    })
}

/// A valley across the axes' logarithms; 0 at batch = 48, units = 300, steps = 3000, layers = 6.
pub(crate) fn integer_log(params: &Params) -> f64 {
    let from = |name: &str, best: f64| libm::log2(number(params, name) / best);
    let (batch, units) = (from("batch", 48.0), from("units", 300.0));
    let (steps, layers) = (from("steps", 3000.0), number(params, "layers") - 6.0);
    let square = |x: f64| x * x;
    square(batch - steps)
        + 0.1 * square(batch)
        + square(units + 0.3 * layers)
        + 0.05 * square(layers)
}
