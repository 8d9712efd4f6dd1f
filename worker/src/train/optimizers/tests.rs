use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// Written by `worker/tests/reference/make_optimizers.py` with PyTorch.
const REFERENCE: &str = include_str!("../../../tests/reference/optimizers.json");
/// Both compute in f32, in slightly different orders: a unit in the last place for some of 100 steps.
const TOLERANCE: f32 = 5e-6;

#[derive(Deserialize)]
struct Reference {
    start: Vec<f32>,
    scales: Vec<f32>,
    /// By optimizer, after every tenth step.
    after: BTreeMap<String, Vec<Vec<f32>>>,
}

fn cases() -> Vec<(&'static str, Value)> {
    vec![
        ("sgd", json!({"sgd": {"learning_rate": 0.1}})),
        (
            "sgd_momentum",
            json!({"sgd": {"learning_rate": 0.05, "momentum": 0.9}}),
        ),
        (
            "sgd_nesterov",
            json!({"sgd": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": true}}),
        ),
        (
            "sgd_nesterov_decay",
            json!({"sgd": {
                "learning_rate": 0.05, "momentum": 0.8, "nesterov": true, "weight_decay": 0.1,
            }}),
        ),
        (
            "sgd_dampening",
            json!({"sgd": {"learning_rate": 0.05, "momentum": 0.9, "dampening": 0.5}}),
        ),
        ("adagrad", json!({"adagrad": {"learning_rate": 0.1}})),
        ("rmsprop", json!({"rmsprop": {"learning_rate": 0.01}})),
        (
            "rmsprop_momentum",
            json!({"rmsprop": {"learning_rate": 0.01, "momentum": 0.9}}),
        ),
        (
            "rmsprop_centered",
            json!({"rmsprop": {"learning_rate": 0.01, "centered": true, "epsilon": 1e-4}}),
        ),
        (
            "rmsprop_centered_momentum",
            json!({"rmsprop": {
                "learning_rate": 0.01, "centered": true, "momentum": 0.5, "epsilon": 1e-4,
            }}),
        ),
        ("adadelta", json!({"adadelta": {"learning_rate": 1.0}})),
        ("adam", json!({"adam": {"learning_rate": 0.01}})),
        (
            "adam_amsgrad",
            json!({"adam": {"learning_rate": 0.01, "beta2": 0.9, "amsgrad": true}}),
        ),
        (
            "adam_large_epsilon",
            json!({"adam": {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 0.1}}),
        ),
        (
            "adamw",
            json!({"adamw": {"learning_rate": 0.01, "weight_decay": 0.1}}),
        ),
        (
            "adamw_amsgrad",
            json!({"adamw": {
                "learning_rate": 0.01, "beta2": 0.9, "weight_decay": 0.1, "amsgrad": true,
            }}),
        ),
        ("nadam", json!({"nadam": {"learning_rate": 0.01}})),
        (
            "nadam_decay",
            json!({"nadam": {"learning_rate": 0.01, "momentum_decay": 1.0}}),
        ),
        (
            "lion",
            json!({"lion": {"learning_rate": 0.01, "weight_decay": 0.1}}),
        ),
    ]
}

/// An optimizer with the rate of its spec.
struct Own {
    optimizer: Optimizer,
    learning_rate: f64,
}

impl Own {
    fn begin(&mut self, divisor: f64) -> Update<'_> {
        let gradient = Gradient::mean(divisor);
        self.optimizer.begin(&[self.learning_rate], gradient)
    }
}

fn optimizer(spec: &Value, len: usize) -> Own {
    let spec: OptimizerSpec = serde_json::from_value(spec.clone()).unwrap();
    Own {
        optimizer: Optimizer::new(&spec, len),
        learning_rate: spec.learning_rate(),
    }
}

fn number(at: usize) -> f32 {
    ((at % 1013) as f32 - 500.0) / 321.0
}

fn numbers(len: usize, factor: usize, offset: usize) -> Vec<f32> {
    (0..len).map(|at| number(at * factor + offset)).collect()
}

/// That of the script that made the reference; exact in f32.
fn gradient(step: usize, scales: &[f32]) -> Vec<f32> {
    let number = |at: usize| ((step * 37 + at * 101) % 257) as f32 - 128.0;
    let scaled = scales.iter().enumerate();
    scaled
        .map(|(at, scale)| number(at) / 64.0 * scale)
        .collect()
}

#[test]
fn updates_are_those_of_pytorch() {
    let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
    assert_eq!(reference.after.len(), cases().len());
    for (name, spec) in cases() {
        let mut optimizer = optimizer(&spec, reference.start.len());
        let mut parameters = reference.start.clone();
        for (tenth, expected) in reference.after[name].iter().enumerate() {
            for step in 10 * tenth..10 * (tenth + 1) {
                // Summed over four samples, as a trainer hands them over.
                let mut summed = gradient(step, &reference.scales);
                summed.iter_mut().for_each(|g| *g *= 4.0);
                optimizer.begin(4.0).apply(0, 0, &mut parameters, &summed);
            }
            for (ours, theirs) in parameters.iter().zip(expected) {
                let error = (ours - theirs).abs();
                assert!(
                    error <= TOLERANCE * theirs.abs().max(1.0),
                    "{name}, step {}: {ours}, PyTorch {theirs}",
                    optimizer.optimizer.steps()
                );
            }
        }
        assert_eq!(optimizer.optimizer.steps(), 100, "{name}");
    }
}

/// The words of the spec, and each has a case.
#[test]
fn every_optimizer_is_compared() {
    for name in OptimizerSpec::NAMES {
        let compared = cases().iter().any(|(_, spec)| spec.get(name).is_some());
        assert!(compared, "{name}");
    }
}

/// A rule that keeps something between steps must not depend on having seen them.
#[test]
fn a_run_that_goes_on_takes_the_same_steps() {
    let len = 50;
    for (name, spec) in cases() {
        let mut whole = optimizer(&spec, len);
        let mut parameters = numbers(len, 7, 0);
        for step in 0..10 {
            let mut other = optimizer(&spec, len);
            other.optimizer.set_steps(whole.optimizer.steps());
            let slots = other.optimizer.slots_mut().iter_mut();
            for (slot, from) in slots.zip(whole.optimizer.slots()) {
                slot.values.clone_from(&from.values);
            }
            let gradients = numbers(len, 31, step * 17);
            let mut again = parameters.clone();
            other.begin(3.0).apply(0, 0, &mut again, &gradients);
            whole.begin(3.0).apply(0, 0, &mut parameters, &gradients);
            assert_eq!(again, parameters, "{name}, step {step}");
        }
    }
}

/// FNV-1a over the bits of 1,000 parameters after 100 steps, as the first version of each rule left them:
/// checkpoints of then go on as if nothing had changed.
#[test]
fn updates_are_to_the_bit_what_they_were() {
    let cases = BTreeMap::from_iter(cases());
    for (name, expected) in [
        ("sgd", 0xbc30_db61_5296_f66f),
        ("sgd_momentum", 0x7ffe_b668_90c1_d670),
        ("sgd_nesterov", 0x4425_c095_b011_94d4),
        ("sgd_nesterov_decay", 0x2511_91e6_bc43_a1e9),
        ("adam", 0x9a37_5132_5ce3_2e2a),
        ("adam_large_epsilon", 0x0387_ab9b_ecb3_554f),
        ("adamw", 0x1a37_a9e4_e73c_54b3),
    ] {
        let len = 1000;
        let mut optimizer = optimizer(&cases[name], len);
        let mut parameters = numbers(len, 7, 0);
        for step in 0..100 {
            let gradients = numbers(len, 31, step * 17);
            optimizer
                .begin(3.0)
                .apply(0, 0, &mut parameters, &gradients);
        }
        let digest = parameters
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, value| {
                (digest ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
            });
        assert_eq!(digest, expected, "{name}: {digest:#018x}");
    }
}

#[test]
fn blocks_and_threads_and_offsets_change_nothing() {
    let len = 2 * BLOCK + 77;
    let gradients = numbers(len, 1, 0);
    for (name, spec) in cases() {
        let run = |threads: usize, cut: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut optimizer = optimizer(&spec, len);
                let mut parameters = numbers(len, 7, 0);
                for _ in 0..3 {
                    let mut update = optimizer.begin(8.0);
                    let (left, right) = parameters.split_at_mut(cut);
                    update.apply(0, 0, left, &gradients[..cut]);
                    update.apply(0, cut, right, &gradients[cut..]);
                }
                parameters
            })
        };
        let whole = run(1, len);
        assert_eq!(whole, run(3, len), "{name}");
        assert_eq!(whole, run(2, 12_345), "{name}");
    }
}
