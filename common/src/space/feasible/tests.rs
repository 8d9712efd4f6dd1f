//! Draws are even: against the distributions that follow from the constraints, and against draws of which those that
//! break one were thrown away.

use serde_json::{Value, json};

use crate::rng::Key;
use crate::space::SearchSpace;
use crate::spec::{Params, Space};

const DRAWS: u64 = 1_500;

/// Of two distributions that are the same, or of one that is as it should be, 1 in 10,000 samples of [`DRAWS`] differs
/// by more (Kolmogorov: 2.23 / sqrt(n), of two samples sqrt(2) times that), and by half of that more for draws that
/// begin at the same few hundred points.
const ONE: f64 = 1.5 * 2.23;
const TWO: f64 = 1.5 * 2.23 * std::f64::consts::SQRT_2;

fn space(parameters: Value, constraints: &[&str]) -> SearchSpace {
    let parameters: Space = serde_json::from_value(parameters).unwrap();
    let constraints: Vec<String> = constraints.iter().map(|text| (*text).to_owned()).collect();
    SearchSpace::new(&parameters)
        .unwrap()
        .constrained(&constraints)
        .unwrap()
}

fn many(count: usize, domain: Value) -> Value {
    let named = (0..count).map(|at| (format!("x{at}"), domain.clone()));
    Value::Object(named.collect())
}

fn rare(space: &SearchSpace) -> Vec<Params> {
    let draws = (0..DRAWS).map(|draw| space.sample_rare(Key::new(3).with(draw)).unwrap());
    let draws: Vec<Params> = draws.collect();
    for params in &draws {
        space.contains(params).unwrap();
    }
    draws
}

fn thrown_away(space: &SearchSpace) -> Vec<Params> {
    let draws = (0_u64..).map(|draw| space.sample(Key::new(4).with(draw)));
    draws
        .filter(|p| space.allows(p))
        .take(DRAWS as usize)
        .collect()
}

/// The largest distance of a sample's distribution from this one.
fn distance(mut sample: Vec<f64>, distribution: impl Fn(f64) -> f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let count = sample.len() as f64;
    let steps = sample.iter().enumerate().map(|(at, x)| {
        let (below, upto) = (at as f64 / count, (at + 1) as f64 / count);
        f64::max(
            (distribution(*x) - below).abs(),
            (distribution(*x) - upto).abs(),
        )
    });
    steps.fold(0.0, f64::max)
}

fn assert_is(name: &str, sample: Vec<f64>, distribution: impl Fn(f64) -> f64) {
    let count = sample.len() as f64;
    let distance = distance(sample, distribution);
    assert!(distance < ONE / count.sqrt(), "{name}: {distance}");
}

fn numbers(draws: &[Params], name: &str) -> Vec<f64> {
    draws
        .iter()
        .filter_map(|params| params.get(name)?.as_f64())
        .collect()
}

/// Every number and the share of every choice.
fn assert_same(space: &SearchSpace, a: &[Params], b: &[Params]) {
    for parameter in space.parameters() {
        let name = &parameter.name;
        let as_number = |params: &Params| match params.get(name) {
            Some(value) => value
                .as_f64()
                .unwrap_or_else(|| value.to_string().len() as f64),
            None => -1.0,
        };
        let mut other: Vec<f64> = b.iter().map(as_number).collect();
        other.sort_by(f64::total_cmp);
        // Of equal values the distributions are compared behind the last of them.
        let upto = |sample: &[f64], x: f64| {
            sample.partition_point(|y| *y <= x) as f64 / sample.len() as f64
        };
        let mut sample: Vec<f64> = a.iter().map(as_number).collect();
        sample.sort_by(f64::total_cmp);
        let distance = sample
            .iter()
            .map(|x| (upto(&sample, *x) - upto(&other, *x)).abs())
            .fold(0.0, f64::max);
        assert!(distance < TWO / (DRAWS as f64).sqrt(), "{name}: {distance}");
    }
}

fn assert_share(space: &SearchSpace, share: f64) {
    let found = space.feasible().unwrap().share().unwrap();
    assert!(
        found > share / 2.5 && found < share * 2.5,
        "{found} for {share}"
    );
}

#[test]
fn an_order_of_ten_is_even() {
    let domain = json!({"type": "int", "minval": 200, "maxval": 8000});
    let below: Vec<String> = (1..10).map(|at| format!("x{} <= x{at}", at - 1)).collect();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    let space = space(many(10, domain), &below);
    // 1/10!, and a little more for those that are equal.
    assert_share(&space, 2.8e-7);
    let draws = rare(&space);
    // The k-th of ten uniform numbers: at least k of them are below x.
    for k in [1_usize, 5, 10] {
        let sample = numbers(&draws, &format!("x{}", k - 1));
        assert_is(&format!("{k} of 10"), sample, |x| {
            let p = (x - 199.5) / 7801.0;
            (k..=10)
                .map(|n| choose(10, n) * p.powi(n as i32) * (1.0 - p).powi(10 - n as i32))
                .sum()
        });
    }
    let mut distinct: Vec<String> = draws.iter().map(|p| space.fingerprint(p)).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len() as u64, DRAWS);
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|at| (n - at) as f64 / (at + 1) as f64).product()
}

#[test]
fn an_order_of_thirty_is_even_and_what_is_not_known_to_be_is_told() {
    let domain = json!({"type": "double", "minval": 0, "maxval": 1});
    let order = |count: usize| {
        let below: Vec<String> = (1..count)
            .map(|at| format!("x{} <= x{at}", at - 1))
            .collect();
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        space(many(count, domain.clone()), &below)
    };
    let draws = rare(&order(30));
    let middle = numbers(&draws, "x14").into_iter().sum::<f64>() / DRAWS as f64;
    // The fifteenth of thirty: 15/31 in the mean, with a standard deviation of 0.09.
    assert!((middle - 15.0 / 31.0).abs() < 0.05, "{middle}");
    let most = order(100);
    assert!(most.first_allowed().is_some());
    assert_eq!(most.allowed_share(), None);
}

#[test]
fn a_simplex_of_ten_is_even() {
    let domain = json!({"type": "double", "minval": 0, "maxval": 1});
    let space = space(
        many(10, domain),
        &["x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 <= 1"],
    );
    assert_share(&space, 2.756e-7);
    let draws = rare(&space);
    for at in [0, 4, 9] {
        let sample = numbers(&draws, &format!("x{at}"));
        assert_is(&format!("x{at}"), sample, |x| 1.0 - (1.0 - x).powi(10));
    }
    let sums = draws
        .iter()
        .map(|p| p.values().map(|x| x.as_f64().unwrap()).sum());
    assert_is("sum", sums.collect(), |x| f64::min(x, 1.0).powi(10));
}

#[test]
fn a_thin_band_is_even() {
    let domain = json!({"type": "double", "minval": 0, "maxval": 1});
    let space = space(many(4, domain), &["1 <= x0 + x1 + x2 + x3 <= 1.0001"]);
    // The density of the sum of four at 1 is 1/6.
    assert_share(&space, 1e-4 / 6.0);
    let draws = rare(&space);
    for at in 0..4 {
        let sample = numbers(&draws, &format!("x{at}"));
        assert_is(&format!("x{at}"), sample, |x| {
            1.0 - (1.0 - f64::min(x, 1.0)).powi(3)
        });
    }
}

#[test]
fn a_union_has_each_part_by_its_size() {
    let parameters = json!({
        "x": {"type": "double", "minval": 0, "maxval": 1},
        "y": {"type": "double", "minval": 0, "maxval": 1000},
    });
    let parts = "x < 0.002 and y < 3 or x > 0.994 and y > 999";
    let space = space(parameters, &[parts]);
    assert_share(&space, 1.2e-5);
    let draws = rare(&space);
    let near = numbers(&draws, "x")
        .into_iter()
        .filter(|x| *x < 0.5)
        .count() as f64;
    // Both are the same size; of 1,024 points that were led there half, with a standard deviation of at least 16 that
    // grows with each of 16 halvings.
    assert!((near / DRAWS as f64 - 0.5).abs() < 0.15, "{near}");
    assert_is(
        "y",
        numbers(&draws, "y")
            .into_iter()
            .filter(|y| *y < 500.0)
            .collect(),
        |y| y / 3.0,
    );
}

#[test]
fn what_is_not_rare_is_as_draws_are() {
    let parameters = json!({
        "layers": {"type": "int", "minval": 1, "maxval": 6},
        "width": {"type": "int", "minval": 8, "maxval": 4096, "log": true},
        "rate": {"type": "double", "minval": 1e-5, "maxval": 1.0, "log": true},
        "optimizer": {"type": "categorical", "vals": ["sgd", "adam", "rmsprop"]},
        "momentum": {"type": "double", "minval": 0, "maxval": 1, "step": 0.05, "when": {"optimizer": "sgd"}},
        "size": {"type": "ordinal", "vals": ["small", "medium", "very large"]},
    });
    let constraints = [
        "layers * width <= 512 or optimizer == 'sgd' and rate < 1e-3",
        "momentum + rate < 0.7",
        "not (size == 'small' and layers in [2, 3])",
        "optimizer != 'adam' or log10(rate) < -2",
        "round(rate * 10) != 3",
    ];
    let space = space(parameters, &constraints);
    assert_same(&space, &rare(&space), &thrown_away(&space));
}

#[test]
fn whole_numbers_and_choices_that_hardly_fit_are_even() {
    let parameters = json!({
        "a": {"type": "int", "minval": 1, "maxval": 64},
        "b": {"type": "int", "minval": 1, "maxval": 64},
        "c": {"type": "categorical", "vals": [1, 2, 4, 8, 16, 32]},
        "kind": {"type": "categorical", "vals": ["x", "y", "none"]},
        "d": {"type": "int", "minval": 0, "maxval": 99, "when": {"kind": ["x", "y"]}},
    });
    let space = space(
        parameters,
        &["a * b * c == 512", "a >= b", "d < 50 or kind == 'x'"],
    );
    assert_same(&space, &rare(&space), &thrown_away(&space));
}

#[test]
fn a_variation_stays_near_and_within() {
    let domain = json!({"type": "double", "minval": 0, "maxval": 1});
    let space = space(
        many(6, domain),
        &["x0 + x1 + x2 + x3 + x4 + x5 <= 0.5", "x0 < x1"],
    );
    let from = space.sample_rare(Key::new(1)).unwrap();
    let mut moved = 0;
    for draw in 0..200 {
        let near = space
            .vary_allowed(&from, 0.02, Key::new(2).with(draw))
            .unwrap();
        space.contains(&near).unwrap();
        for (name, value) in &near {
            let far = (value.as_f64().unwrap() - from[name].as_f64().unwrap()).abs();
            assert!(far <= 0.02 + 1e-12, "{name}: {far}");
        }
        moved += usize::from(near != from);
    }
    assert!(moved > 190, "{moved}");
    let outside = space.sample(Key::new(9));
    assert_eq!(space.vary_allowed(&outside, 0.02, Key::new(2)), None);
}

#[test]
fn draws_are_the_same_again_and_nothing_is_made_up() {
    let domain = json!({"type": "double", "minval": 0, "maxval": 1});
    let made = || space(many(5, domain.clone()), &["x0 * x1 * x2 * x3 * x4 > 0.98"]);
    let (one, other) = (made(), made());
    other.sample_rare(Key::new(77)).unwrap();
    for draw in 0..20 {
        let key = Key::new(5).with(draw);
        assert_eq!(one.sample_rare(key), other.sample_rare(key));
    }
    let none = space(many(3, domain), &["x0 + x1 + x2 < 0"]);
    assert_eq!(none.first_allowed(), None);
    assert_eq!(none.sample_rare(Key::new(1)), None);
    assert_eq!(none.allowed_share(), None);
}

#[test]
fn what_is_listed_is_counted() {
    let digit = json!({"type": "int", "minval": 0, "maxval": 9});
    let below = ["x0 < x1", "x1 < x2", "x2 < x3", "x3 < x4", "x4 < x5"];
    let ascending = space(many(6, digit.clone()), &below);
    assert_eq!(ascending.allowed_share(), Some(210.0 / 1e6));
    let none = space(many(3, digit), &["x0 + x1 + x2 < 0"]);
    assert_eq!(none.allowed_share(), None);
}
