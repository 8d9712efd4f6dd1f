//! Networks against numbers from PyTorch: `tests/reference/make_reference.py` made `layers.json` there, `make_graphs.py` `graphs.json`,
//! `make_images.py` `images.json`, `make_sequences.py` `sequences.json`, `make_losses.py` `losses.json` (PyTorch 2.15, float64).
//! Tolerance: 1e-5 of the value plus 1e-5 of the largest value beside it,
//! which is what f32 sums of this length can keep.

use candle_core::Device;
use serde::Deserialize;
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::model::LayerSpec;
use trainyard_common::spec::training::Loss;
use trainyard_network::{NamedTensor, Network, ShardOutcome, Targets};

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    sample_shape: Vec<usize>,
    layers: Vec<LayerSpec>,
    loss: Loss,
    outputs: usize,
    samples: usize,
    parameters: Vec<f32>,
    running: Vec<Vec<f32>>,
    features: Vec<f32>,
    classes: Option<Vec<u32>>,
    values: Option<Vec<f32>>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    training_loss: f64,
    gradients: Vec<f64>,
    inference_loss: f64,
    prediction: Vec<f64>,
    correct: u64,
    abs_err: f64,
    sq_err: f64,
    running: Vec<Vec<f64>>,
}

impl Case {
    fn targets(&self) -> Targets<'_> {
        match (&self.classes, &self.values) {
            (Some(classes), _) => Targets::Classes(classes),
            (None, Some(values)) => Targets::Values(values),
            (None, None) => panic!("{}: no targets", self.name),
        }
    }

    fn target_kind(&self) -> TargetKind {
        match &self.values {
            None => TargetKind::Classes(Some(self.outputs)),
            Some(values) => TargetKind::Values(Some(values.len() / self.samples)),
        }
    }

    fn network(&self) -> Network {
        let spec = ModelSpec::of(self.layers.clone());
        let mut network = Network::build(
            &spec,
            &self.sample_shape,
            &self.loss,
            self.target_kind(),
            Key::new(1),
            &Device::Cpu,
            u64::MAX,
        )
        .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        network.write_parameters(&self.parameters).unwrap();
        let running: Vec<NamedTensor> = network
            .running_statistics()
            .into_iter()
            .zip(&self.running)
            .map(|(tensor, data)| NamedTensor {
                data: data.clone(),
                ..tensor
            })
            .collect();
        network.set_running_statistics(&running).unwrap();
        network
    }
}

/// Files of cases, each with the least number of them.
const FILES: &[(&str, usize)] = &[
    (include_str!("../reference/layers.json"), 60),
    (include_str!("../reference/graphs.json"), 30),
    (include_str!("../reference/images.json"), 100),
    (include_str!("../reference/sequences.json"), 20),
    (include_str!("../reference/activations.json"), 40),
    (include_str!("../reference/losses.json"), 90),
];

fn cases() -> Vec<Case> {
    let read = |(text, least): &(&str, usize)| {
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > *least, "{} cases", cases.len());
        cases
    };
    FILES.iter().flat_map(read).collect()
}

fn check(what: &str, given: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let given: Vec<f64> = given.into_iter().collect();
    assert_eq!(given.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    for (i, (given, expected)) in given.iter().zip(expected).enumerate() {
        let tolerance = TOLERANCE * (expected.abs() + largest);
        assert!(
            (given - expected).abs() <= tolerance,
            "{what}[{i}]: {given}, PyTorch {expected}"
        );
    }
}

fn widen(values: &[f32]) -> impl Iterator<Item = f64> + '_ {
    values.iter().map(|&value| f64::from(value))
}

#[test]
fn training_step_is_pytorchs() {
    for case in cases() {
        let name = &case.name;
        let mut network = case.network();
        let mut gradients = vec![f32::NAN; network.gradient_len()];
        let mut statistics = vec![f32::NAN; network.statistics_len()];
        // The second time all buffers hold what the first one left.
        for _ in 0..2 {
            let outcome = network
                .shard_step(
                    &case.features,
                    case.targets(),
                    Key::new(3),
                    &mut gradients,
                    &mut statistics,
                )
                .unwrap();
            assert_eq!(outcome.samples, case.samples, "{name}");
            let loss = case.expected.training_loss;
            check(&format!("{name}: loss"), [outcome.loss_sum], &[loss]);
            check(
                &format!("{name}: gradient"),
                widen(&gradients),
                &case.expected.gradients,
            );
        }
        network.apply_statistics(&statistics, case.samples as f64);
        let running = network.running_statistics();
        assert_eq!(running.len(), case.expected.running.len(), "{name}");
        for (running, expected) in running.iter().zip(&case.expected.running) {
            check(
                &format!("{name}: {}", running.name),
                widen(&running.data),
                expected,
            );
        }
    }
}

#[test]
fn inference_is_pytorchs() {
    for case in cases() {
        let name = &case.name;
        let network = case.network();
        let prediction = network.predict(&case.features, case.samples).unwrap();
        assert_eq!(prediction.dims(), [case.samples, network.outputs()]);
        let prediction: Vec<f32> = prediction.flatten_all().unwrap().to_vec1().unwrap();
        check(
            &format!("{name}: prediction"),
            widen(&prediction),
            &case.expected.prediction,
        );
        let ShardOutcome {
            loss_sum,
            correct,
            abs_err_sum,
            sq_err_sum,
            samples,
        } = network.evaluate(&case.features, case.targets()).unwrap();
        assert_eq!(
            (correct, samples),
            (case.expected.correct, case.samples),
            "{name}"
        );
        for (what, given, expected) in [
            ("loss", loss_sum, case.expected.inference_loss),
            ("absolute error", abs_err_sum, case.expected.abs_err),
            ("squared error", sq_err_sum, case.expected.sq_err),
        ] {
            check(&format!("{name}: {what}"), [given], &[expected]);
        }
    }
}
