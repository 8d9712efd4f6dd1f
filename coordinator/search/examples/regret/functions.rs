//! Functions whose minimum is known, each with the search space that a job would write.
//!
//! Noise is a pure function of (seed, configuration, resource), so that every implementation of a protocol
//! sees the same numbers. Values are costs: they are minimized.

mod families;
mod jobs;
mod literature;

use std::f64::consts::PI;

use serde_json::{Map, Value, json};
use trainyard_common::rng::{mix, unit_f64};
use trainyard_common::spec::Params;

pub(crate) use families::*;
pub(crate) use jobs::*;
pub(crate) use literature::*;

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
    /// What a configuration is worth where the run's seed draws the function.
    member: Option<fn(&Params, u64) -> f64>,
    /// Its lowest, where that differs.
    lowest: Option<fn(u64) -> f64>,
}

impl Function {
    fn exact(name: &'static str, space: Value, truth: fn(&Params) -> f64, minimum: f64) -> Self {
        Self {
            name,
            space,
            truth,
            noisy: None,
            minimum,
            member: None,
            lowest: None,
        }
    }

    /// One of a family for each seed.
    fn family(
        name: &'static str,
        space: Value,
        member: fn(&Params, u64) -> f64,
        minimum: f64,
    ) -> Self {
        Self {
            member: Some(member),
            ..Self::exact(name, space, |_| f64::NAN, minimum)
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
            None => self.worth(params, seed),
        }
    }

    pub(crate) fn worth(&self, params: &Params, seed: u64) -> f64 {
        match self.member {
            Some(member) => member(params, seed),
            None => (self.truth)(params),
        }
    }

    pub(crate) fn lowest(&self, seed: u64) -> f64 {
        self.lowest.map_or(self.minimum, |lowest| lowest(seed))
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
        Function::family("wells6", cube(6, 0.0, 1.0), wells, -1.0),
        Function::family("ripples4", cube(4, 0.0, 1.0), ripples, 0.0),
        Function::family("hidden12", cube(12, 0.0, 1.0), hidden, 0.0),
        Function::family("noisy_hidden12", cube(12, 0.0, 1.0), hidden, 0.0).noisy(hidden_noisy),
        Function {
            lowest: Some(path_minimum),
            ..Function::family("path3", cube(3, 0.0, 1.0), path, 0.0)
        },
        Function::family("training", training_space(), training, 0.0),
        Function::family("families", families_space(), families, 0.0),
        exact("rastrigin4", cube(4, -4.0, 6.0), rastrigin, 0.0),
        exact("schwefel4", cube(4, -500.0, 500.0), schwefel, 0.0),
        exact("ackley20", cube(20, -15.0, 30.0), ackley, 0.0),
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

pub(crate) fn normal(params: &Params, resource: u64, seed: u64) -> f64 {
    Stream::new(seed, numbers(params, 'x'), resource).normal()
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
        ("rastrigin's minimum", rastrigin(&same(&[0.0; 4])), 0.0),
        (
            "schwefel's minimum",
            schwefel(&same(&[420.968_746_359_982; 4])),
            0.0,
        ),
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
