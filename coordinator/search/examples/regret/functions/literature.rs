//! Test functions of the literature (Surjanovic and Bingham, "Virtual Library of Simulation Experiments").

use std::f64::consts::PI;

use trainyard_common::spec::Params;

use super::{Stream, number, numbers};

pub(crate) fn branin(params: &Params) -> f64 {
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

pub(crate) fn hartmann6(params: &Params) -> f64 {
    hartmann(&numbers(params, 'x'), &H6_A, &H6_P, 0.0)
}

pub(crate) fn hartmann3(params: &Params) -> f64 {
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

fn mean(xs: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    xs.iter().fold(0.0, |sum, x| sum + term(*x)) / xs.len() as f64
}

pub(crate) fn ackley(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let radius = mean(&xs, |x| x * x).sqrt();
    let waves = mean(&xs, |x| libm::cos(2.0 * PI * x));
    20.0 - 20.0 * libm::exp(-0.2 * radius) + std::f64::consts::E - libm::exp(waves)
}

pub(crate) fn levy(params: &Params) -> f64 {
    let xs = numbers(params, 'x').into_iter();
    let ws: Vec<f64> = xs.map(|x| 1.0 + (x - 1.0) / 4.0).collect();
    let square = |x: f64| x * x;
    let wave = |w: f64| square(libm::sin(PI * w));
    let inner = |w: &f64| square(w - 1.0) * (1.0 + 10.0 * square(libm::sin(PI * w + 1.0)));
    let (first, last) = (ws[0], ws[ws.len() - 1]);
    let middle = ws[..ws.len() - 1].iter().map(inner).sum::<f64>();
    wave(first) + middle + square(last - 1.0) * (1.0 + wave(2.0 * last))
}

pub(crate) fn rosenbrock(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let step = |pair: &[f64]| {
        let valley = pair[1] - pair[0] * pair[0];
        100.0 * valley * valley + (1.0 - pair[0]) * (1.0 - pair[0])
    };
    xs.windows(2).map(step).sum()
}

pub(crate) fn rastrigin(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |x: &f64| x * x - 10.0 * libm::cos(2.0 * PI * x) + 10.0;
    xs.iter().map(term).sum()
}

pub(crate) fn schwefel(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |x: &f64| 418.982_887_272_433_8 - x * libm::sin(x.abs().sqrt());
    xs.iter().map(term).sum()
}

pub(crate) fn styblinski(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |x: &f64| x * x * x * x - 16.0 * x * x + 5.0 * x;
    xs.iter().map(term).sum::<f64>() / 2.0
}

pub(crate) fn griewank(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let bowl = xs.iter().map(|x| x * x).sum::<f64>() / 4000.0;
    let waves = xs.iter().enumerate();
    let wave = |(at, x): (usize, &f64)| libm::cos(x / (at as f64 + 1.0).sqrt());
    bowl - waves.map(wave).product::<f64>() + 1.0
}

pub(crate) fn michalewicz(params: &Params) -> f64 {
    let xs = numbers(params, 'x');
    let term = |(at, x): (usize, &f64)| {
        let steep = libm::sin((at as f64 + 1.0) * x * x / PI);
        libm::sin(*x) * libm::pow(steep, 20.0)
    };
    -xs.iter().enumerate().map(term).sum::<f64>()
}

pub(crate) fn sphere(params: &Params) -> f64 {
    numbers(params, 'x').iter().map(|x| x * x).sum()
}

pub(crate) fn camel(params: &Params) -> f64 {
    let (x, y) = (number(params, "x0"), number(params, "x1"));
    let (xx, yy) = (x * x, y * y);
    (4.0 - 2.1 * xx + xx * xx / 3.0) * xx + x * y + (4.0 * yy - 4.0) * yy
}
