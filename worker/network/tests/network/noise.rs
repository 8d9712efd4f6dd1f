//! Layers of noise: the same in forward and backward and on any number of threads, at rest in inference.

use candle_core::Device;
use serde_json::{Value, json};
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::training::Loss;
use trainyard_network::{Network, Targets};

const SAMPLES: usize = 23;

fn build(layers: Value) -> Network {
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let loss: Loss = serde_json::from_value(json!({"cross_entropy": {}})).unwrap();
    let shape = [2, 17, 21];
    let (key, memory) = (Key::new(7), u64::MAX);
    Network::build(
        &spec,
        &shape,
        &loss,
        TargetKind::Classes(Some(5)),
        key,
        &Device::Cpu,
        memory,
    )
    .unwrap()
}

fn noisy() -> Value {
    json!([
        {"gaussian_noise": {"stddev": 0.3}},
        {"conv2d": {"filters": 19, "kernel": 3}},
        {"prelu": {}},
        {"spatial_dropout": {"rate": 0.25}},
        {"activation": {"function": "mish"}},
        {"global_avg_pool2d": {}},
        {"gaussian_dropout": {"rate": 0.2}},
        {"dense": {"units": 5}},
    ])
}

fn features(network: &Network) -> Vec<f32> {
    let key = Key::new(11);
    let len = SAMPLES * network.sample_len();
    (0..len as u64).map(|i| key.normal(i) as f32).collect()
}

/// Loss and gradient with masks of this key.
fn step(network: &Network, mask_key: u64) -> (f64, Vec<f32>) {
    let labels: Vec<u32> = (0..SAMPLES as u32).map(|i| i * 7 % 5).collect();
    let mut gradients = vec![f32::NAN; network.gradient_len()];
    let outcome = network.shard_step(
        &features(network),
        Targets::Classes(&labels),
        Key::new(mask_key),
        &mut gradients,
        &mut [],
    );
    (outcome.unwrap().loss_sum, gradients)
}

#[test]
fn noise_follows_its_key_and_no_number_of_threads() {
    let run = |threads: usize, key: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| step(&build(noisy()), key))
    };
    let one = run(1, 5);
    assert!(one.0.is_finite() && one.1.iter().all(|g| g.is_finite()));
    assert_eq!(one, run(2, 5));
    assert_eq!(one, run(3, 5));
    assert_ne!(one.0, run(1, 6).0);
}

#[test]
fn gradient_passes_noise_as_the_values_did() {
    let network = build(noisy());
    let (_, gradients) = step(&network, 2);
    let mut parameters = vec![0.0; network.gradient_len()];
    network.read_parameters(&mut parameters).unwrap();
    let norm = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let norm = norm.sqrt();
    // The directional derivative along the gradient by central differences, at a step of 1e-2 of a unit vector:
    // truncation and rounding are both below 1e-2 of it.
    let moved = |scale: f64| {
        let moved = parameters.iter().zip(&gradients);
        let moved: Vec<f32> = moved
            .map(|(value, gradient)| value + (scale * f64::from(*gradient) / norm) as f32)
            .collect();
        network.write_parameters(&moved).unwrap();
        step(&network, 2).0
    };
    let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
    assert!((slope - norm).abs() < 1e-2 * norm, "{slope} {norm}");
}

#[test]
fn noise_rests_in_inference() {
    let Value::Array(layers) = noisy() else {
        panic!("a list");
    };
    let quiet = layers.into_iter().filter(|layer| {
        let words = ["gaussian_noise", "spatial_dropout", "gaussian_dropout"];
        words.iter().all(|word| layer.get(word).is_none())
    });
    let (noisy, quiet) = (build(noisy()), build(Value::Array(quiet.collect())));
    let mut parameters = vec![0.0; noisy.gradient_len()];
    noisy.read_parameters(&mut parameters).unwrap();
    quiet.write_parameters(&parameters).unwrap();
    let predict = |network: &Network| -> Vec<f32> {
        let prediction = network.predict(&features(network), SAMPLES).unwrap();
        prediction.flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(predict(&noisy), predict(&quiet));
}
