//! Functions of several objectives whose fronts are known.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};

pub(crate) struct Function {
    pub(crate) name: &'static str,
    axes: usize,
    pub(crate) costs: fn(&[f64]) -> Vec<f64>,
    pub(crate) reference: &'static [f64],
    /// The hypervolume of the whole front.
    pub(crate) best: f64,
}

impl Function {
    pub(crate) fn space(&self) -> Value {
        let double = json!({"type": "double", "minval": 0.0, "maxval": 1.0});
        let axis = |axis: usize| (format!("x{axis}"), double.clone());
        (0..self.axes).map(axis).collect::<Map<_, _>>().into()
    }
}

/// ZDT1 to ZDT3 (Zitzler, Deb and Thiele 2000) and DTLZ2 with three objectives (Deb et al. 2002), at
/// numbers of hyperparameters that a search has.
pub(crate) fn all() -> Vec<Function> {
    let zdt = |name, axes, costs, best| Function {
        name,
        axes,
        costs,
        reference: &[1.1, 6.0],
        best,
    };
    // The integral below x = 1.1 and above the front: f2 is 1 - sqrt(f1), 1 - f1^2, and of ZDT3
    // numerically; beyond f1 = 1 the front is at its least.
    vec![
        zdt("zdt1, 6 axes", 6, zdt1, 6.6 - 1.0 / 3.0),
        zdt("zdt2, 6 axes", 6, zdt2, 6.6 - 2.0 / 3.0),
        zdt("zdt3, 6 axes", 6, zdt3, zdt3_volume()),
        zdt("zdt1, 12 axes", 12, zdt1, 6.6 - 1.0 / 3.0),
        Function {
            name: "dtlz2, 7 axes",
            axes: 7,
            costs: dtlz2,
            reference: &[1.5, 1.5, 1.5],
            // Less an eighth of the unit ball.
            best: 3.375 - PI / 6.0,
        },
    ]
}

fn g(x: &[f64]) -> f64 {
    1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64
}

fn zdt1(x: &[f64]) -> Vec<f64> {
    let g = g(x);
    vec![x[0], g * (1.0 - (x[0] / g).sqrt())]
}

fn zdt2(x: &[f64]) -> Vec<f64> {
    let g = g(x);
    vec![x[0], g * (1.0 - (x[0] / g) * (x[0] / g))]
}

fn zdt3(x: &[f64]) -> Vec<f64> {
    let (g, f) = (g(x), x[0]);
    let h = 1.0 - (f / g).sqrt() - f / g * libm::sin(10.0 * PI * f);
    vec![f, g * h]
}

/// By the midpoint rule over the least cost so far.
fn zdt3_volume() -> f64 {
    const STEPS: u32 = 1_000_000;
    let (mut least, mut sum) = (f64::INFINITY, 0.0);
    for step in 0..STEPS {
        let x = 1.1 * (f64::from(step) + 0.5) / f64::from(STEPS);
        if x <= 1.0 {
            least = least.min(zdt3(&[x, 0.0])[1]);
        }
        sum += (6.0 - least) * 1.1 / f64::from(STEPS);
    }
    sum
}

fn dtlz2(x: &[f64]) -> Vec<f64> {
    let g: f64 = x[2..].iter().map(|x| (x - 0.5) * (x - 0.5)).sum();
    let (a, b) = (x[0] * PI / 2.0, x[1] * PI / 2.0);
    vec![
        (1.0 + g) * libm::cos(a) * libm::cos(b),
        (1.0 + g) * libm::cos(a) * libm::sin(b),
        (1.0 + g) * libm::sin(a),
    ]
}
