//! Losses: shards that only add up, weights of classes, what is refused. Their numbers are compared in `reference`.

use candle_core::Device;
use serde_json::{Value, json};
use trainyard_common::network::{Loss, ModelSpec, TargetKind};
use trainyard_common::rng::Key;
use trainyard_common::spec::Document;
use trainyard_network::{ModelError, Network, Targets};

const WIDTH: usize = 3;
const SAMPLES: usize = 6;

fn build(layers: &Value, loss: &Value, targets: TargetKind) -> Result<Network, ModelError> {
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let loss: Loss = serde_json::from_value(loss.clone()).unwrap();
    let key = Key::new(7);
    Network::build(&spec, &[4], &loss, targets, key, &Device::Cpu, u64::MAX)
}

/// Every loss, with the fields that it needs.
fn losses() -> Vec<Value> {
    let word = |word: &&str| match *word {
        "quantile" => json!({"quantile": {"quantile": 0.3}}),
        word => json!({ word: {} }),
    };
    Loss::NAMES.iter().map(word).collect()
}

fn takes_values(loss: &Value) -> bool {
    let loss: Loss = serde_json::from_value(loss.clone()).unwrap();
    loss.takes().values()
}

/// A network over three outputs, under a loss, and targets that all losses of their kind take.
struct Trained {
    network: Network,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Option<Vec<f32>>,
}

impl Trained {
    fn with(loss: &Value) -> Self {
        let layers = json!([{"dense": {"units": 5, "activation": "tanh"}},
            {"dense": {"units": WIDTH, "activation": "linear"}}]);
        let is_values = takes_values(loss);
        let kind = match is_values {
            true => TargetKind::Values(Some(WIDTH)),
            false => TargetKind::Classes(Some(WIDTH)),
        };
        let key = Key::new(3);
        let hot = |i: usize| f32::from(u8::from(i % WIDTH == i / WIDTH % WIDTH));
        Self {
            network: build(&layers, loss, kind).unwrap(),
            features: (0..SAMPLES as u64 * 4)
                .map(|i| key.normal(i) as f32)
                .collect(),
            classes: (0..SAMPLES as u32).map(|i| i % WIDTH as u32).collect(),
            values: is_values.then(|| (0..SAMPLES * WIDTH).map(hot).collect()),
        }
    }

    fn step(&self, from: usize, to: usize) -> (f64, Vec<f32>) {
        let targets = match &self.values {
            Some(values) => Targets::Values(&values[from * WIDTH..to * WIDTH]),
            None => Targets::Classes(&self.classes[from..to]),
        };
        let mut gradients = vec![f32::NAN; self.network.gradient_len()];
        let features = &self.features[from * 4..to * 4];
        let outcome = self
            .network
            .shard_step(features, targets, Key::new(1), &mut gradients, &mut [])
            .unwrap();
        (outcome.loss_sum, gradients)
    }
}

fn assert_near(what: &str, given: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
    for (given, expected) in given.iter().zip(expected) {
        let near = (given - expected).abs() <= 1e-5 * largest;
        assert!(near, "{what}: {given} and {expected}");
    }
}

#[test]
fn shards_only_add_up() {
    for loss in losses() {
        let trained = Trained::with(&loss);
        let (whole, gradient) = trained.step(0, SAMPLES);
        let (first, mut sum) = trained.step(0, 2);
        let (second, rest) = trained.step(2, SAMPLES);
        assert!(gradient.iter().any(|g| *g != 0.0), "{loss}");
        assert!(
            ((first + second) - whole).abs() <= 1e-9 * whole.abs(),
            "{loss}"
        );
        sum.iter_mut().zip(&rest).for_each(|(a, b)| *a += b);
        assert_near(&loss.to_string(), &sum, &gradient);
    }
}

#[test]
fn what_is_no_number_reaches_loss_and_gradient() {
    for loss in losses() {
        let mut trained = Trained::with(&loss);
        trained.features[1] = f32::NAN;
        let (value, gradient) = trained.step(0, 1);
        assert!(value.is_nan(), "{loss}: {value}");
        assert!(gradient.iter().any(|g| g.is_nan()), "{loss}");
    }
}

#[test]
fn class_weights_multiply_losses_and_gradients_of_training_alone() {
    for loss in losses() {
        let mut trained = Trained::with(&loss);
        if trained.values.is_some() {
            continue;
        }
        let own: Vec<(f64, Vec<f32>)> = (0..WIDTH).map(|i| trained.step(i, i + 1)).collect();
        let judged = |trained: &Trained| {
            let targets = Targets::Classes(&trained.classes);
            trained
                .network
                .evaluate(&trained.features, targets)
                .unwrap()
        };
        let before = judged(&trained);
        let weights = [2.0, 0.0, 0.5];
        trained.network.weigh_classes(weights.to_vec()).unwrap();
        let (value, gradient) = trained.step(0, WIDTH);
        let expected: f64 = own
            .iter()
            .zip(weights)
            .map(|(own, w)| own.0 * f64::from(w))
            .sum();
        assert!((value - expected).abs() <= 1e-9 * expected, "{loss}");
        let expected: Vec<f32> = (0..gradient.len())
            .map(|i| own.iter().zip(weights).map(|(own, w)| own.1[i] * w).sum())
            .collect();
        assert_near(&loss.to_string(), &gradient, &expected);
        assert_eq!(judged(&trained), before, "{loss}");
        let error = trained.network.weigh_classes(vec![1.0]).unwrap_err();
        assert!(error.to_string().contains("class weights has 1"), "{error}");
    }
}

#[test]
fn targets_that_a_loss_is_not_for_are_refused() {
    let layers = json!([{"dense": {"units": WIDTH}}]);
    let told = |loss: Value, kind, targets: Targets<'_>| {
        let network = build(&layers, &loss, kind).unwrap();
        let error = network.evaluate(&[0.0; 4], targets).unwrap_err();
        error.to_string()
    };
    let classes = TargetKind::Classes(Some(WIDTH));
    let values = TargetKind::Values(Some(WIDTH));
    for (told, needle) in [
        (
            told(
                json!({"categorical_hinge": {}}),
                classes,
                Targets::Values(&[0.0; 3]),
            ),
            "class numbers",
        ),
        (
            told(json!({"cross_entropy": {}}), values, Targets::Classes(&[0])),
            "values",
        ),
        (
            told(
                json!({"cross_entropy": {}}),
                values,
                Targets::Values(&[0.5, 2.0, 0.0]),
            ),
            "target 2 of sample 0; cross_entropy accepts [0, 1]",
        ),
        (
            told(
                json!({"hinge": {}}),
                values,
                Targets::Values(&[1.0, 0.5, 0.0]),
            ),
            "hinge accepts 0 and 1, or -1 and 1",
        ),
        (
            told(
                json!({"binary_focal": {}}),
                values,
                Targets::Values(&[1.0, 0.5, 0.0]),
            ),
            "binary_focal accepts 0 and 1",
        ),
        (
            told(
                json!({"msle": {}}),
                values,
                Targets::Values(&[1.0, -0.5, 0.0]),
            ),
            "msle accepts numbers from 0",
        ),
        (
            told(
                json!({"dice": {}}),
                values,
                Targets::Values(&[1.0, f32::NAN, 0.0]),
            ),
            "dice accepts [0, 1]",
        ),
    ] {
        assert!(told.contains(needle), "{told}");
    }
}

#[test]
fn a_pixel_of_no_class_is_refused() {
    let image = json!([{"reshape": {"shape": [1, 2, 2]}}, {"conv2d": {"filters": 2, "kernel": 1}}]);
    let network = build(
        &image,
        &json!({"cross_entropy": {}}),
        TargetKind::Values(Some(4)),
    )
    .unwrap();
    let error = network
        .evaluate(&[0.0; 4], Targets::Values(&[0.0, 1.0, 2.0, 0.0]))
        .unwrap_err();
    let needle = "target 2 of sample 0; cross_entropy accepts whole numbers from 0 to 1";
    assert!(error.to_string().contains(needle), "{error}");
}

/// Whether a document is accepted does not depend on whether it tells the shape of its samples.
#[test]
fn a_document_with_its_shape_is_refused_where_the_trainer_refuses() {
    for loss in losses() {
        for (units, activation) in [
            (1, "sigmoid"),
            (2, "linear"),
            (2, "softmax"),
            (3, "softmax"),
        ] {
            for classes in [2, 3] {
                let layers = json!([{"dense": {"units": units, "activation": activation}}]);
                let job = json!({
                    "name": "x", "model": {"layers": layers}, "training": {"loss": loss, "metrics": []},
                    "objectives": [{"metric": "validation_loss", "mode": "minimize"}],
                    "data": {"shape": [4], "classes": classes, "train": {"csv": {"url": "file:///x.csv", "targets": [0]}}},
                });
                let told = Document::parse(&job.to_string()).err();
                let told = told.map(|errors| errors.to_string());
                if told
                    .as_ref()
                    .is_some_and(|told| told.contains("task: classification"))
                {
                    continue;
                }
                let built = build(&layers, &loss, TargetKind::Classes(Some(classes)));
                let built = built.map(drop).map_err(|error| error.to_string());
                assert_eq!(told.is_some(), built.is_err(), "{job}: {told:?}, {built:?}");
            }
        }
    }
}
