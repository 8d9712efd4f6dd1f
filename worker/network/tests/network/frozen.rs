//! Parameters that are not trained: what is left is what it was, and costs nothing.

use candle_core::Device;
use serde_json::{Value, json};
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_network::{Network, Targets};

const SHAPE: [usize; 3] = [2, 9, 7];

fn build(layers: &Value) -> Network {
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let loss = serde_json::from_value(json!({"cross_entropy": {}})).unwrap();
    Network::build(
        &spec,
        &SHAPE,
        &loss,
        TargetKind::Classes(Some(3)),
        Key::new(7),
        &Device::Cpu,
        u64::MAX,
    )
    .unwrap()
}

fn layers() -> Value {
    json!([
        {"conv2d": {"filters": 5, "kernel": 3, "padding": "same", "name": "stem"}},
        {"batch_norm": {"name": "norm"}},
        {"conv2d": {"filters": 4, "kernel": 3, "activation": "relu", "name": "middle"}},
        {"batch_norm": {"name": "last"}},
        {"flatten": {}},
        {"dense": {"units": 3, "name": "head"}},
    ])
}

fn features(samples: usize) -> Vec<f32> {
    let key = Key::new(11);
    let len = samples * SHAPE.iter().product::<usize>();
    (0..len as u64).map(|at| key.normal(at) as f32).collect()
}

/// Gradient of each parameter by its name, and the statistics.
fn step(network: &Network, samples: usize) -> (Vec<(String, Vec<f32>)>, Vec<f32>) {
    let mut gradients = vec![f32::NAN; network.gradient_len()];
    let mut statistics = vec![f32::NAN; network.statistics_len()];
    let labels: Vec<u32> = (0..samples as u32).map(|at| at % 3).collect();
    let targets = Targets::Classes(&labels);
    let key = Key::new(5);
    network
        .shard_step(
            &features(samples),
            targets,
            key,
            &mut gradients,
            &mut statistics,
        )
        .unwrap();
    let mut rest = gradients.as_slice();
    let named = network.trained().map(|parameter| {
        let (own, after) = rest.split_at(parameter.var.elem_count());
        rest = after;
        (parameter.name.clone(), own.to_vec())
    });
    (named.collect(), statistics)
}

fn without(names: &[&str]) -> Network {
    let network = build(&layers());
    let mut parameters = network.parameters().iter();
    let trained: Vec<bool> = (&mut parameters)
        .map(|parameter| !names.iter().any(|name| parameter.name.starts_with(name)))
        .collect();
    network.trained_in_part(&trained)
}

/// Without a batch normalization that rests, what is still trained has the same gradient, bit for bit.
#[test]
fn gradients_of_the_others_stay_the_same() {
    let (whole, whole_statistics) = step(&build(&layers()), 8);
    for frozen in [
        &["stem"][..],
        &["head"],
        &["stem", "middle"],
        &["middle.kernel"],
        &["last.gamma", "head.bias"],
    ] {
        let network = without(frozen);
        let (some, statistics) = step(&network, 8);
        assert!(some.len() < whole.len() && !some.is_empty());
        for (name, gradient) in &some {
            let (_, known) = whole.iter().find(|(known, _)| known == name).unwrap();
            assert!(gradient == known, "{name}, without {frozen:?}");
        }
        assert_eq!(statistics, whole_statistics, "{frozen:?}");
        let lengths: usize = some.iter().map(|(_, gradient)| gradient.len()).sum();
        assert_eq!(network.gradient_len(), lengths);
        assert!(network.gradient_len() < network.parameters_len());
    }
}

/// A frozen batch normalization is what it is in inference: an affine function of each channel. Its gradient is that
/// of a numerical derivative.
#[test]
fn a_frozen_batch_normalization_rests() {
    let mut network = without(&["norm"]);
    let (before, statistics) = step(&network, 6);
    let range = 0..10;
    assert!(statistics[range.clone()].iter().all(|value| *value == 0.0));
    assert!(statistics[range.end..].iter().any(|value| *value != 0.0));
    let running = |network: &Network| {
        let statistics = network.running_statistics();
        let found = statistics
            .into_iter()
            .filter(|tensor| tensor.name.starts_with("norm."));
        found.map(|tensor| tensor.data).collect::<Vec<_>>()
    };
    let rested = running(&network);
    network.apply_statistics(&statistics, 6.0);
    assert_eq!(running(&network), rested);

    // Along one weight of the stem, whose gradient comes through the frozen layer.
    let network = without(&["norm", "last"]);
    let (named, _) = step(&network, 6);
    assert_ne!(named[0].1, before[0].1, "the later one rests too");
    let labels: Vec<u32> = (0..6).map(|at| at % 3).collect();
    let mut flat = vec![0.0; network.parameters_len()];
    network.read_parameters(&mut flat).unwrap();
    let loss = |change: f32| {
        let mut moved = flat.clone();
        moved[4] += change;
        network.write_parameters(&moved).unwrap();
        // All that it computes in inference is what it computes in training.
        network
            .evaluate(&features(6), Targets::Classes(&labels))
            .unwrap()
            .loss_sum
    };
    let numerical = (loss(2e-3) - loss(-2e-3)) / 4e-3;
    let exact = f64::from(named[0].1[4]);
    assert!(
        (numerical - exact).abs() < 2e-2 * exact.abs().max(0.1),
        "{numerical} {exact}"
    );
}

/// What lies before everything that is trained keeps nothing for a backward pass.
#[test]
fn a_frozen_beginning_takes_less_memory() {
    let whole = build(&layers()).pass_bytes(16).0;
    let some = without(&["stem", "norm", "middle", "last"])
        .pass_bytes(16)
        .0;
    assert!(some < whole, "{some} {whole}");
}
