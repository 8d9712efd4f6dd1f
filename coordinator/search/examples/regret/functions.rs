//! Functions whose minimum is known, each with the search space that a job would write.
//!
//! Noise is a pure function of (seed, configuration, resource), so that every implementation of a protocol
//! sees the same numbers. Values are costs: they are minimized.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};
use trainyard_common::rng::{mix, unit_f64};
use trainyard_common::spec::Params;

/// A function of configurations.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// As a job's `hyperparameters`.
    pub(crate) space: Value,
    /// What a configuration is worth.
    pub(crate) truth: fn(&Params) -> f64,
    /// What a trial of it reports, given the run's seed, where that is not the truth.
    noisy: Option<fn(&Params, u64) -> f64>,
    /// The lowest truth.
    pub(crate) minimum: f64,
}

impl Function {
    fn exact(name: &'static str, space: Value, truth: fn(&Params) -> f64, minimum: f64) -> Self {
        Self {
            name,
            space,
            truth,
            noisy: None,
            minimum,
        }
    }

    fn noisy(self, observed: fn(&Params, u64) -> f64) -> Self {
        Self {
            noisy: Some(observed),
            ..self
        }
    }

    pub(crate) fn observe(&self, params: &Params, seed: u64) -> f64 {
        match self.noisy {
            Some(observed) => observed(params, seed),
            None => (self.truth)(params),
        }
    }
}

/// All, in the order in which they are listed. The first four are the ones that peers were measured on.
pub(crate) fn all() -> Vec<Function> {
    let exact = Function::exact;
    let plane = |x: Value, y: Value| json!({"x0": x, "x1": y});
    let branin_space = plane(double(-5.0, 10.0), double(0.0, 15.0));
    let camel_space = plane(double(-3.0, 3.0), double(-2.0, 2.0));
    let noisy_sphere = |params: &Params, seed: u64| sphere(params) + normal(params, 0, seed);
    // Domains around zero are cut unevenly, so that no minimum lies in the middle of the cube.
    vec![
        exact("branin", branin_space, branin, BRANIN_STAR),
        exact("hartmann6", cube(6, 0.0, 1.0), hartmann6, H6_STAR),
        exact("mixed", mixed_space(), mixed, 0.0),
        exact("counting8+8", counting_space(), counting_truth, -16.0)
            .noisy(|params, seed| counting(params, 729, seed)),
        exact("ackley2", cube(2, -15.0, 30.0), ackley, 0.0),
        exact("ackley5", cube(5, -15.0, 30.0), ackley, 0.0),
        exact("ackley10", cube(10, -15.0, 30.0), ackley, 0.0),
        exact("levy4", cube(4, -10.0, 10.0), levy, 0.0),
        exact("levy10", cube(10, -10.0, 10.0), levy, 0.0),
        exact("rosenbrock4", cube(4, -5.0, 10.0), rosenbrock, 0.0),
        exact("styblinski5", cube(5, -5.0, 5.0), styblinski, ST5_STAR),
        exact("griewank6", cube(6, -300.0, 600.0), griewank, 0.0),
        exact("michalewicz5", cube(5, 0.0, PI), michalewicz, M5_STAR),
        exact("hartmann3", cube(3, 0.0, 1.0), hartmann3, H3_STAR),
        exact("noisy_sphere6", cube(6, -5.0, 10.0), sphere, 0.0).noisy(noisy_sphere),
        exact("camel", camel_space, camel, CAMEL_STAR),
        exact("network", network_space(), network, 0.0),
        exact("categorical6", choices_space(), choices, choices_minimum()),
        exact("integer_log", integer_space(), integer_log, 0.0),
    ]
}

const BRANIN_STAR: f64 = 0.397_887_357_729_738_16;
const H6_STAR: f64 = -3.322_368_011_415_515;
pub(crate) const H3_STAR: f64 = -3.862_779_787_332_663;
const CAMEL_STAR: f64 = -1.031_628_453_489_877_4;
const M5_STAR: f64 = -4.687_658_179_088_148;
const ST5_STAR: f64 = -5.0 * 39.166_165_703_771_42;

// Spaces.

fn double(min: f64, max: f64) -> Value {
    json!({"type": "double", "minval": min, "maxval": max})
}

fn log_double(min: f64, max: f64) -> Value {
    json!({"type": "double", "minval": min, "maxval": max, "log": true})
}

fn int(min: i64, max: i64) -> Value {
    json!({"type": "int", "minval": min, "maxval": max})
}

fn log_int(min: i64, max: i64) -> Value {
    json!({"type": "int", "minval": min, "maxval": max, "log": true})
}

fn when(mut parameter: Value, parent: &str, value: &str) -> Value {
    parameter["when"] = json!({parent: value});
    parameter
}

/// x0, x1, ... of one range.
pub(crate) fn cube(axes: usize, min: f64, max: f64) -> Value {
    let named = (0..axes).map(|axis| (format!("x{axis}"), double(min, max)));
    Value::Object(named.collect::<Map<_, _>>())
}

// What a configuration says. An absent hyperparameter is a fault of the function, seen as NaN.

fn number(params: &Params, name: &str) -> f64 {
    params.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn word<'a>(params: &'a Params, name: &str) -> &'a str {
    params.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Numbers whose names begin with a letter, in the order of the space.
fn numbers(params: &Params, letter: char) -> Vec<f64> {
    let named = params.iter().filter(|(name, _)| name.starts_with(letter));
    named.filter_map(|(_, value)| value.as_f64()).collect()
}

// Noise: the bar's own counter-based source (`functions.py` of the peers' measurements).

/// Numbers from (seed, configuration, resource): the state plus i, mixed.
struct Stream {
    state: u64,
    drawn: u64,
}

impl Stream {
    fn new(seed: u64, xs: impl IntoIterator<Item = f64>, resource: u64) -> Self {
        // Plus zero: -0 is 0.
        let bits = xs.into_iter().map(|x| (x + 0.0).to_bits());
        let hash = bits.fold(mix(seed), |hash, bits| mix(hash ^ bits));
        Self {
            state: mix(hash ^ resource),
            drawn: 0,
        }
    }

    fn unit(&mut self) -> f64 {
        self.drawn += 1;
        unit_f64(mix(self.state.wrapping_add(self.drawn)))
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.unit(), self.unit());
        (-2.0 * libm::log(a)).sqrt() * libm::cos(2.0 * PI * b)
    }
}

fn normal(params: &Params, resource: u64, seed: u64) -> f64 {
    Stream::new(seed, numbers(params, 'x'), resource).normal()
}

// Functions of the peers' measurements.

fn branin(params: &Params) -> f64 {
    let (x, y) = (number(params, "x0"), number(params, "x1"));
    let (b, c, t) = (5.1 / (4.0 * PI * PI), 5.0 / PI, 1.0 / (8.0 * PI));
    let bowl = y - b * x * x + c * x - 6.0;
    bowl * bowl + 10.0 * (1.0 - t) * libm::cos(x) + 10.0
}

const ALPHA: [f64; 4] = [1.0, 1.2, 3.0, 3.2];

const H6_A: [[f64; 6]; 4] = [
    [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
    [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
    [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
    [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
];
const H6_P: [[f64; 6]; 4] = [
    [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
    [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
    [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
    [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
];
const H3_A: [[f64; 3]; 4] = [
    [3.0, 10.0, 30.0],
    [0.1, 10.0, 35.0],
    [3.0, 10.0, 30.0],
    [0.1, 10.0, 35.0],
];
const H3_P: [[f64; 3]; 4] = [
    [3689.0, 1170.0, 2673.0],
    [4699.0, 4387.0, 7470.0],
    [1091.0, 8732.0, 5547.0],
    [381.0, 5743.0, 8828.0],
];

/// The sum of four wells.
fn hartmann<const D: usize>(xs: &[f64], a: &[[f64; D]; 4], p: &[[f64; D]; 4], lower: f64) -> f64 {
    let well = |well: usize| {
        let terms = xs.iter().zip(&a[well]).zip(&p[well]);
        let distance = terms.fold(0.0, |sum, ((x, a), p)| {
            let from = x - 1e-4 * p;
            sum + a * (from * from)
        });
        (ALPHA[well] - lower) * libm::exp(-distance)
    };
    -(0..4).fold(0.0, |sum, at| sum + well(at))
}

fn hartmann6(params: &Params) -> f64 {
    hartmann(&numbers(params, 'x'), &H6_A, &H6_P, 0.0)
}

fn hartmann3(params: &Params) -> f64 {
    hartmann(&numbers(params, 'x'), &H3_A, &H3_P, 0.0)
}

/// Hartmann's function of three axes at a resource of at most `whole`: its wells are shallower by a bias,
/// and it is noisy, the less the more of the resource is spent.
pub(crate) fn hartmann3_at(
    params: &Params,
    (resource, whole): (u64, u64),
    (bias, noise): (f64, f64),
    seed: u64,
) -> f64 {
    let xs = numbers(params, 'x');
    let share = libm::log(resource as f64) / libm::log(whole as f64);
    let exact = hartmann(&xs, &H3_A, &H3_P, bias * (1.0 - share));
    if share < 1.0 {
        let drawn = Stream::new(seed, xs, resource).normal().abs();
        exact + drawn * noise * (1.0 - share)
    } else {
        exact
    }
}

fn mixed_space() -> Value {
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
fn mixed(params: &Params) -> f64 {
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

// Functions of the literature (Surjanovic and Bingham, "Virtual Library of Simulation Experiments").

fn mean(xs: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    xs.iter().fold(0.0, |sum, x| sum + term(*x)) / xs.len() as f64
}

fn ackley(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let radius = mean(&xs, |x| x * x).sqrt();
    let waves = mean(&xs, |x| libm::cos(2.0 * PI * x));
    20.0 - 20.0 * libm::exp(-0.2 * radius) + std::f64::consts::E - libm::exp(waves)
}

fn levy(params: &Params) -> f64 {
    let xs = numbers(params, 'x').into_iter();
    let ws: Vec<f64> = xs.map(|x| 1.0 + (x - 1.0) / 4.0).collect();
    let square = |x: f64| x * x;
    let wave = |w: f64| square(libm::sin(PI * w));
    let inner = |w: &f64| square(w - 1.0) * (1.0 + 10.0 * square(libm::sin(PI * w + 1.0)));
    let (first, last) = (ws[0], ws[ws.len() - 1]);
    let middle = ws[..ws.len() - 1].iter().map(inner).sum::<f64>();
    wave(first) + middle + square(last - 1.0) * (1.0 + wave(2.0 * last))
}

fn rosenbrock(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let step = |pair: &[f64]| {
        let valley = pair[1] - pair[0] * pair[0];
        100.0 * valley * valley + (1.0 - pair[0]) * (1.0 - pair[0])
    };
    xs.windows(2).map(step).sum()
}

fn styblinski(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |x: &f64| x * x * x * x - 16.0 * x * x + 5.0 * x;
    xs.iter().map(term).sum::<f64>() / 2.0
}

fn griewank(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let bowl = xs.iter().map(|x| x * x).sum::<f64>() / 4000.0;
    let waves = xs.iter().enumerate();
    let wave = |(at, x): (usize, &f64)| libm::cos(x / (at as f64 + 1.0).sqrt());
    bowl - waves.map(wave).product::<f64>() + 1.0
}

fn michalewicz(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |(at, x): (usize, &f64)| {
        let steep = libm::sin((at as f64 + 1.0) * x * x / PI);
        libm::sin(*x) * libm::pow(steep, 20.0)
    };
    -xs.iter().enumerate().map(term).sum::<f64>()
}

fn sphere(params: &Params) -> f64 {
    numbers(params, 'x').iter().map(|x| x * x).sum()
}

fn camel(params: &Params) -> f64 {
    let (x, y) = (number(params, "x0"), number(params, "x1"));
    let (xx, yy) = (x * x, y * y);
    (4.0 - 2.1 * xx + xx * xx / 3.0) * xx + x * y + (4.0 * yy - 4.0) * yy
}

// Spaces as jobs have them.

fn network_space() -> Value {
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
fn network(params: &Params) -> f64 {
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

fn choices_space() -> Value {
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

fn choices(params: &Params) -> f64 {
    let words = params.values().filter_map(Value::as_str);
    let cells = words.filter_map(|word| word[1..].parse().ok());
    choices_at(&cells.collect::<Vec<u64>>())
}

/// By looking at all 5,760 configurations.
fn choices_minimum() -> f64 {
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

fn integer_space() -> Value {
    json!({
        "batch": log_int(1, 4096),
        "units": log_int(1, 2048),
        "steps": log_int(10, 100_000),
        "layers": int(1, 20),
    })
}

/// A valley across the axes' logarithms; 0 at batch = 48, units = 300, steps = 3000, layers = 6.
fn integer_log(params: &Params) -> f64 {
    let from = |name: &str, best: f64| libm::log2(number(params, name) / best);
    let (batch, units) = (from("batch", 48.0), from("units", 300.0));
    let (steps, layers) = (from("steps", 3000.0), number(params, "layers") - 6.0);
    let square = |x: f64| x * x;
    square(batch - steps)
        + 0.1 * square(batch)
        + square(units + 0.3 * layers)
        + 0.05 * square(layers)
}

/// Holds the port against numbers of `functions.py`, and minima against the functions' values there.
///
/// # Errors
/// What differs.
pub(crate) fn check() -> Result<(), String> {
    let params = |value: Value| -> Params { serde_json::from_value(value).unwrap_or_default() };
    let square = |x: f64, y: f64| params(json!({"x0": x, "x1": y}));
    let same = |xs: &[f64]| {
        let named = xs.iter().enumerate().map(|(at, x)| (format!("x{at}"), *x));
        params(json!(named.collect::<std::collections::BTreeMap<_, _>>()))
    };
    let momentum = json!({"lr": 0.01, "wd": 1e-3, "layers": 3, "opt": "momentum", "momentum": 0.8});
    let adam = json!({"lr": libm::pow(10.0, -3.1), "wd": 1e-4, "layers": 5, "opt": "adam", "one_minus_beta2": 1e-3});
    let coins = params(json!({"c0": 1, "c1": 0, "x0": 0.5, "x1": 0.25}));
    let convolution = json!({"kind": "convolution", "lr": 0.003, "batch": 32, "channels": 64, "blocks": 7, "kernel": 3});
    let whole = json!({"batch": 48, "units": 300, "steps": 3000, "layers": 6});
    let h3 = [0.5, 0.25, 0.75];
    let m5 = [2.202_906, PI / 2.0, 1.284_992, 1.923_058, 1.720_470];
    let golden = [
        (
            "hartmann3_at",
            hartmann3_at(&same(&h3), (9, 81), (2.5, 2.0), 7),
            0.364_849_738_077_758_8,
        ),
        ("counting", counting(&coins, 9, 7), -1.666_666_666_666_666_5),
        ("mixed", mixed(&params(momentum)), 0.656_618_312_870_838),
        ("mixed's minimum", mixed(&params(adam)), 0.0),
        ("branin", branin(&square(1.0, 2.0)), 21.627_635_392_062_38),
        ("branin's minimum", branin(&square(PI, 2.275)), BRANIN_STAR),
        (
            "hartmann6",
            hartmann6(&same(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])),
            -1.406_910_576_138_529_7,
        ),
        (
            "hartmann3's minimum",
            hartmann3(&same(&[0.114_614, 0.555_649, 0.852_547])),
            H3_STAR,
        ),
        ("ackley's minimum", ackley(&same(&[0.0; 5])), 0.0),
        ("levy's minimum", levy(&same(&[1.0; 4])), 0.0),
        ("rosenbrock's minimum", rosenbrock(&same(&[1.0; 4])), 0.0),
        (
            "styblinski's minimum",
            styblinski(&same(&[-2.903_534_027_771_177; 5])),
            ST5_STAR,
        ),
        ("griewank's minimum", griewank(&same(&[0.0; 6])), 0.0),
        ("michalewicz's minimum", michalewicz(&same(&m5)), M5_STAR),
        (
            "camel's minimum",
            camel(&square(0.089_842_01, -0.712_656_4)),
            CAMEL_STAR,
        ),
        ("network's minimum", network(&params(convolution)), 0.0),
        ("integer_log's minimum", integer_log(&params(whole)), 0.0),
    ];
    for (name, found, expected) in golden {
        if (found - expected).abs() > 1e-9 {
            return Err(format!("{name}: {found:?}, expected {expected:?}"));
        }
    }
    Ok(())
}
