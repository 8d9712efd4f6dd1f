use serde_json::json;
use trainyard_common::rng::Key;

use super::gaussian::{Gaussian, Rates};
use super::*;
use crate::search::trial_run::{self, cube, every_kind, fingerprint, lowest, record};

fn fresh(axes: &Axes) -> Box<trial_run::Propose<'static>> {
    let mut cma = Cma::new(axes, Key::new(3));
    Box::new(move |axes, history, key| cma.propose(axes, history, key))
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn rates_are_the_tutorials() {
    // pycma says of ten axes: (5_w,10)-aCMA-ES (mu_w=3.2,w_1=45%).
    let rates = Rates::new(10, 10);
    close(rates.weights[0], 0.456_272_646_903_405_97);
    close(rates.mu_eff, 3.167_299_281_410_702_6);
    close(rates.weights[..5].iter().sum(), 1.0);
    assert!(rates.weights[5..].iter().all(|weight| *weight < 0.0));
}

#[test]
fn a_generation_by_hand() {
    // By equations 40 to 47 of the tutorial, written out in Python for the identity as covariance.
    let rates = Rates::new(2, 6);
    close(rates.mu_eff, 2.028_611_464_610_061_7);
    close(rates.c_1, 0.154_815_399_896_413_6);
    close(rates.c_mu, 0.085_592_779_426_664_24);
    close(rates.c_sigma, 0.446_204_987_378_317_15);
    close(rates.d_sigma, 1.446_204_987_378_317_2);
    close(rates.c_c, 0.624_554_539_026_826_4);
    let mut gaussian = Gaussian::new(vec![0.5, 0.4], 0.2, 6);
    let generation = [
        [0.55, 0.5],
        [0.6, 0.35],
        [0.45, 0.45],
        [0.4, 0.3],
        [0.7, 0.2],
        [0.3, 0.65],
    ];
    let ranked: Vec<&[f64]> = generation.iter().map(<[f64; 2]>::as_slice).collect();
    gaussian.update(&ranked);
    close(gaussian.mean[0], 0.556_389_795_739_826_6);
    close(gaussian.mean[1], 0.453_395_102_818_257_55);
    close(gaussian.sigma, 0.164_524_183_958_663_78);
    let expected = [
        0.812_674_747_176_277_2,
        0.161_152_811_565_961_28,
        0.161_152_811_565_961_28,
        0.772_675_265_880_259_8,
    ];
    for (found, expected) in gaussian.covariance.iter().zip(expected) {
        close(*found, expected);
    }
}

#[test]
fn pairs_are_mirrored_and_orthogonal() {
    let gaussian = Gaussian::new(vec![0.5; 4], 0.1, 6);
    let key = Key::new(8);
    let step = |number| -> Vec<f64> {
        let x = gaussian.draw_paired(key, number);
        x.iter().map(|x| x - 0.5).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for pair in 0..4 {
        let (one, other) = (step(2 * pair), step(2 * pair + 1));
        close(
            one.iter().zip(&other).map(|(a, b)| (a + b).abs()).sum(),
            0.0,
        );
        for earlier in 0..pair {
            close(dot(&one, &step(2 * earlier)), 0.0);
        }
    }
    // The next block is another one.
    assert!(dot(&step(0), &step(8)).abs() > 1e-6);
}

#[test]
fn only_the_order_of_costs_matters() {
    trial_run::heeds_order_alone(&fresh);
}

#[test]
fn converges() {
    let from = |x: &f64| 4.0 * (x - 0.3);
    let sphere = |x: &[f64]| x.iter().map(|x| from(x) * from(x)).sum::<f64>();
    let ellipsoid = |x: &[f64]| {
        let scales = [1.0, 10.0, 100.0, 1000.0];
        let terms = x.iter().zip(scales);
        terms
            .map(|(x, scale)| scale * from(x) * from(x))
            .sum::<f64>()
    };
    let rosenbrock = |x: &[f64]| {
        let x: Vec<f64> = x.iter().map(|x| 4.0 * x - 2.0).collect();
        let step =
            |pair: &[f64]| 100.0 * (pair[1] - pair[0] * pair[0]).powi(2) + (1.0 - pair[0]).powi(2);
        x.windows(2).map(step).sum::<f64>()
    };
    let run = |cost: &dyn Fn(&[f64]) -> f64, trials| {
        let axes = cube(4);
        lowest(&record(&axes, &mut *fresh(&axes), 1, trials, cost).0)
    };
    assert!(run(&sphere, 300) < 1e-5);
    assert!(run(&ellipsoid, 800) < 1e-4);
    assert!(run(&rosenbrock, 1_000) < 1e-3);
}

#[test]
fn learns_choices_and_whole_numbers() {
    let space: serde_json::Map<String, serde_json::Value> = (0..8)
        .map(|axis| match axis % 2 {
            0 => (
                format!("c{axis}"),
                json!({"type": "categorical", "vals": ["a", "b", "c", "d"]}),
            ),
            _ => (
                format!("i{axis}"),
                json!({"type": "int", "minval": 1, "maxval": 6}),
            ),
        })
        .collect();
    let axes = trial_run::axes(space.into());
    // Every choice at its third value, every number at its last but one: one configuration of 331,776.
    let cost = |point: &[f64]| {
        let terms = point.iter().zip(0..);
        let term = |(x, axis): (&f64, usize)| {
            let wanted = if axis % 2 == 0 { 0.625 } else { 0.75 };
            if axis % 2 == 0 {
                f64::from(u8::from(*x != wanted))
            } else {
                (x - wanted).abs()
            }
        };
        terms.map(term).sum::<f64>()
    };
    let (history, _) = record(&axes, &mut *fresh(&axes), 1, 400, &cost);
    assert!(lowest(&history) < 1e-9, "{}", lowest(&history));
}

#[test]
fn behaves_on_every_space() {
    trial_run::behaves(&fresh);
}

#[test]
fn many_axes_have_variances_alone() {
    let axes = cube(70);
    let cost = |x: &[f64]| x.iter().map(|x| (x - 0.4) * (x - 0.4)).sum::<f64>();
    let (history, _) = record(&axes, &mut *fresh(&axes), 1, 600, &cost);
    let first = history.done().next().map_or(0.0, |(_, cost)| cost);
    assert!(
        lowest(&history) < 0.1 * first,
        "{first} {}",
        lowest(&history)
    );
}

#[test]
fn golden() {
    let axes = every_kind();
    let (history, _) = record(&axes, &mut *fresh(&axes), 3, 200, &trial_run::bowl);
    assert_eq!(fingerprint(&history), GOLDEN);
}

/// Of this program on x86-64; another machine must find the same.
const GOLDEN: u64 = 17_747_760_350_981_734_779;

#[test]
fn a_generation_waits_for_its_own_results_only() {
    let axes = cube(3);
    let mut cma = Cma::new(&axes, Key::new(1));
    let mut history = History::default();
    let ask = |history: &mut History, cma: &mut Cma| {
        let trial = history.trials.len();
        let point = cma.propose(&axes, history, Key::new(2).with(trial as u64));
        history.begun(point);
        trial
    };
    for _ in 0..cma.start_points() {
        let trial = ask(&mut history, &mut cma);
        history.ended(trial, Status::Done(trial as f64));
    }
    let lambda = cma.lambda();
    let generation: Vec<usize> = (0..lambda).map(|_| ask(&mut history, &mut cma)).collect();
    let sigma = |cma: &Cma| cma.run.as_ref().map(|run| run.gaussian.sigma);
    assert_eq!(sigma(&cma), Some(SIGMA));
    // One ends without a result, so one more is needed; another searcher's does not count.
    history.ended(generation[0], Status::Void);
    for trial in &generation[1..] {
        history.ended(*trial, Status::Done(1.0 + *trial as f64));
    }
    history.begun(vec![0.1; 3]);
    history.ended(history.trials.len() - 1, Status::Done(0.0));
    let more = ask(&mut history, &mut cma);
    assert_eq!(sigma(&cma), Some(SIGMA));
    history.ended(more, Status::Bad);
    ask(&mut history, &mut cma);
    assert_ne!(sigma(&cma), Some(SIGMA));
    assert_eq!(cma.under_way.len(), 1);
}
