//! Threads, shards, dropout, empty shards and what is refused.

use candle_core::Device;
use serde_json::json;
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::training::Loss;
use trainyard_network::{ModelError, Network, ShardOutcome, Targets, open_device};

fn build(
    layers: serde_json::Value,
    sample_shape: &[usize],
    loss: serde_json::Value,
    outputs: usize,
) -> Result<Network, ModelError> {
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let loss: Loss = serde_json::from_value(loss).unwrap();
    Network::build(
        &spec,
        sample_shape,
        &loss,
        TargetKind::Classes(Some(outputs)),
        Key::new(7),
        &Device::Cpu,
        u64::MAX,
    )
}

/// Every kind of layer, with shapes that do not divide evenly.
fn everything() -> Network {
    let layers = json!([
        {"conv2d": {"filters": 19, "kernel": 3, "activation": "relu"}},
        {"batch_norm": {}},
        {"conv2d": {"filters": 10, "kernel": [3, 2], "padding": "same", "use_bias": false}},
        {"activation": {"function": "gelu"}},
        {"max_pool2d": {"size": 3, "stride": 2}},
        {"dropout": {"rate": 0.25}},
        {"conv2d": {"filters": 9, "kernel": 2, "stride": 2, "activation": "elu"}},
        {"avg_pool2d": {"size": 2, "stride": 1}},
        {"flatten": {}},
        {"dense": {"units": 600, "activation": "tanh"}},
        {"batch_norm": {}},
        {"dense": {"units": 500, "activation": "relu"}},
        {"dropout": {"rate": 0.5}},
        {"dense": {"units": 10, "activation": "softmax"}},
    ]);
    build(
        layers,
        &[2, 17, 21],
        json!({"cross_entropy": {"label_smoothing": 0.1}}),
        10,
    )
    .unwrap()
}

/// Every kind of layer along sequences.
fn sequences() -> Network {
    let layers = json!([
        {"permute": {"order": [2, 1]}},
        {"layer_norm": {}},
        {"positional_encoding": {}},
        {"multi_head_attention": {"heads": 3, "key_dim": 4, "dropout": 0.2, "causal": true}},
        {"positional_encoding": {"kind": "learned"}},
        {"time_distributed": {"layers": [{"dense": {"units": 8, "activation": "tanh"}}]}},
        {"bidirectional": {"layer": {"lstm": {"units": 7, "return_sequences": true}}}},
        {"group_norm": {"groups": 3}},
        {"dropout": {"rate": 0.25}},
        {"gru": {"units": 9, "return_sequences": true, "mask_value": 0}},
        {"instance_norm": {}},
        {"gru": {"units": 5, "reset_after": false, "go_backwards": true, "return_sequences": true}},
        {"simple_rnn": {"units": 6}},
        {"dense": {"units": 10, "activation": "softmax"}},
    ]);
    build(layers, &[5, 12], json!({"cross_entropy": {}}), 10).unwrap()
}

fn features(len: usize) -> Vec<f32> {
    let key = Key::new(11);
    (0..len as u64).map(|i| key.normal(i) as f32).collect()
}

fn labels(samples: usize) -> Vec<u32> {
    (0..samples as u32).map(|i| i * 7 % 10).collect()
}

struct Step {
    outcome: ShardOutcome,
    gradients: Vec<u32>,
    statistics: Vec<u32>,
}

fn step(network: &Network, samples: usize, mask_key: Key) -> Step {
    let mut gradients = vec![f32::NAN; network.gradient_len()];
    let mut statistics = vec![f32::NAN; network.statistics_len()];
    let outcome = network
        .shard_step(
            &features(samples * network.sample_len()),
            Targets::Classes(&labels(samples)),
            mask_key,
            &mut gradients,
            &mut statistics,
        )
        .unwrap();
    let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect();
    Step {
        outcome,
        gradients: bits(gradients),
        statistics: bits(statistics),
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (network, samples) in [(everything as fn() -> Network, 23), (sequences, 71)] {
        threads_do_not_change(network, samples);
    }
}

fn threads_do_not_change(network: fn() -> Network, samples: usize) {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let network = network();
            let prediction = network
                .predict(&features(samples * network.sample_len()), samples)
                .unwrap();
            let prediction: Vec<f32> = prediction.flatten_all().unwrap().to_vec1().unwrap();
            (step(&network, samples, Key::new(5)), prediction)
        })
    };
    let (one, prediction) = run(1);
    assert!(one.outcome.loss_sum.is_finite() && one.gradients.iter().any(|&bits| bits != 0));
    for threads in [2, 3] {
        let (other, other_prediction) = run(threads);
        assert_eq!(one.outcome, other.outcome, "{threads} threads");
        assert!(one.gradients == other.gradients, "{threads} threads");
        assert!(one.statistics == other.statistics, "{threads} threads");
        assert_eq!(prediction, other_prediction, "{threads} threads");
    }
}

#[test]
fn a_step_depends_on_nothing_before_it() {
    // The same shard twice, with another shard of another size between, as another rank would have.
    let network = everything();
    let first = step(&network, 9, Key::new(5));
    step(&network, 14, Key::new(6));
    let again = step(&network, 9, Key::new(5));
    assert_eq!(first.outcome, again.outcome);
    assert!(first.gradients == again.gradients && first.statistics == again.statistics);
    assert!(first.statistics == step(&everything(), 9, Key::new(5)).statistics);
    // The mask follows its key.
    assert_ne!(first.outcome, step(&network, 9, Key::new(6)).outcome);
}

#[test]
fn gradient_passes_dropout_by_the_mask_of_the_forward_pass() {
    let layers = json!([
        {"dense": {"units": 40, "activation": "tanh"}},
        {"dropout": {"rate": 0.4}},
        {"dense": {"units": 10}},
    ]);
    let network = build(layers, &[6], json!({"cross_entropy": {}}), 10).unwrap();
    let (features, labels) = (features(8 * 6), labels(8));
    let mut gradients = vec![0.0; network.gradient_len()];
    let loss = |parameters: Option<&[f32]>, gradients: &mut [f32]| {
        if let Some(parameters) = parameters {
            network.write_parameters(parameters).unwrap();
        }
        let targets = Targets::Classes(&labels);
        let step = network.shard_step(&features, targets, Key::new(2), gradients, &mut []);
        step.unwrap().loss_sum
    };
    loss(None, &mut gradients);
    let mut parameters = vec![0.0; network.gradient_len()];
    network.read_parameters(&mut parameters).unwrap();
    // The directional derivative along the first kernel's gradient, by central differences: the mask
    // is a function of its key, so the loss is differentiable. Step 1e-2 of a unit vector in f32:
    // truncation and rounding are both below 1e-3 of it.
    let first = ..6 * 40;
    let norm = gradients[first]
        .iter()
        .map(|g| f64::from(*g).powi(2))
        .sum::<f64>()
        .sqrt();
    let mut scratch = vec![0.0; gradients.len()];
    let mut moved = |scale: f64| {
        let mut moved = parameters.clone();
        for (value, gradient) in moved[first].iter_mut().zip(&gradients[first]) {
            *value += (scale * f64::from(*gradient) / norm) as f32;
        }
        loss(Some(&moved), &mut scratch)
    };
    let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
    assert!((slope - norm).abs() < 2e-3 * norm, "{slope} {norm}");
}

#[test]
fn dropout_rests_in_inference() {
    let with = json!([{"dropout": {"rate": 0.9}}, {"dense": {"units": 3}}]);
    let network = build(with, &[4], json!({"mse": {}}), 3).unwrap();
    let values = |network: &Network| -> Vec<f32> {
        let prediction = network.predict(&features(20), 5).unwrap();
        prediction.flatten_all().unwrap().to_vec1().unwrap()
    };
    let predicted = values(&network);
    assert_eq!(predicted, values(&network));
    let kernel: Vec<f32> = network.parameters()[0]
        .var
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let expected: f32 = (0..4).map(|i| features(20)[i] * kernel[i * 3]).sum();
    assert!((predicted[0] - expected).abs() < 1e-5);
}

#[test]
fn an_empty_shard_adds_nothing() {
    let network = everything();
    let empty = step(&network, 0, Key::new(1));
    assert_eq!(empty.outcome, ShardOutcome::default());
    assert!(
        empty
            .gradients
            .iter()
            .chain(&empty.statistics)
            .all(|&bits| bits == 0)
    );
    assert_eq!(network.predict(&[], 0).unwrap().dims(), [0, 10]);
    let mut rested = everything();
    let before = rested.running_statistics();
    rested.apply_statistics(&vec![0.0; rested.statistics_len()], 0.0);
    assert_eq!(before, rested.running_statistics());
}

#[test]
fn statistics_of_shards_add_up_to_those_of_the_batch() {
    let layers =
        json!([{"batch_norm": {"momentum": 0.0}}, {"flatten": {}}, {"dense": {"units": 10}}]);
    let build = || build(layers.clone(), &[2, 3, 3], json!({"cross_entropy": {}}), 10).unwrap();
    let (features, labels) = (features(12 * 18), labels(12));
    let after = |cuts: &[usize]| {
        let mut network = build();
        let mut sum = vec![0.0; network.statistics_len()];
        for cut in cuts.windows(2) {
            let mut gradients = vec![0.0; network.gradient_len()];
            let mut statistics = vec![0.0; network.statistics_len()];
            network
                .shard_step(
                    &features[cut[0] * 18..cut[1] * 18],
                    Targets::Classes(&labels[cut[0]..cut[1]]),
                    Key::new(1),
                    &mut gradients,
                    &mut statistics,
                )
                .unwrap();
            sum.iter_mut()
                .zip(&statistics)
                .for_each(|(sum, value)| *sum += value);
        }
        network.apply_statistics(&sum, 12.0);
        network.running_statistics()
    };
    let (whole, cut) = (after(&[0, 12]), after(&[0, 5, 5, 11, 12]));
    for (whole, cut) in whole.iter().zip(&cut) {
        for (a, b) in whole.data.iter().zip(&cut.data) {
            assert!(
                (a - b).abs() < 1e-6 * (1.0 + a.abs()),
                "{} {a} {b}",
                whole.name
            );
        }
    }
}

#[test]
fn parameters_have_names_shapes_and_starts_of_their_own() {
    let network = everything();
    let names: Vec<&str> = network
        .parameters()
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(
        names[..5],
        [
            "0.conv2d.kernel",
            "0.conv2d.bias",
            "1.batch_norm.gamma",
            "1.batch_norm.beta",
            "2.conv2d.kernel"
        ]
    );
    assert_eq!(network.parameters()[0].var.dims(), [19, 2, 3, 3]);
    assert_eq!(
        network.running_statistics()[1].name,
        "1.batch_norm.moving_variance"
    );
    let mut flat = vec![0.0; network.gradient_len()];
    network.read_parameters(&mut flat).unwrap();
    // Kernels within Glorot's limit, biases 0, gamma 1.
    let limit = (6.0f32 / ((2 + 19) as f32 * 9.0)).sqrt();
    let (kernel, rest) = flat.split_at(19 * 18);
    assert!(kernel.iter().all(|v| v.abs() <= limit) && kernel[0] != kernel[1]);
    assert!(rest[..19].iter().all(|&v| v == 0.0) && rest[19..38].iter().all(|&v| v == 1.0));
    let mut again = vec![0.0; network.gradient_len()];
    everything().read_parameters(&mut again).unwrap();
    assert_eq!(flat, again);
    network
        .update_parameters(|offset, values| values.iter_mut().for_each(|v| *v = offset as f32))
        .unwrap();
    network.read_parameters(&mut flat).unwrap();
    assert_eq!((flat[0], flat[19 * 18]), (0.0, 342.0));
}

#[test]
fn parameters_cost_what_their_layer_says() {
    let layers = json!([
        {"dense": {"units": 3, "kernel_regularizer": {"l1": 0.5, "l2": 0.25}}},
        {"residual": {"body": [{"dense": {"units": 3, "bias_regularizer": {"l2": 2.0}}}]}},
        {"dense": {"units": 2}},
    ]);
    let network = build(layers, &[2], json!({"mse": {}}), 2).unwrap();
    let values: Vec<f32> = (0..network.gradient_len())
        .map(|i| i as f32 - 3.0)
        .collect();
    network.write_parameters(&values).unwrap();
    let mut gradients = vec![1.0; values.len()];
    network.add_penalties(8.0, &mut gradients).unwrap();
    for (i, (&gradient, &value)) in gradients.iter().zip(&values).enumerate() {
        // Kernels of 6 and 9 values with biases of 3 each, then the last layer's.
        let expected = match i {
            0..6 if value == 0.0 => 1.0,
            0..6 => 1.0 + 8.0 * (0.5 * value.signum() + 2.0 * 0.25 * value),
            18..21 => 1.0 + 8.0 * 2.0 * 2.0 * value,
            _ => 1.0,
        };
        assert_eq!(gradient, expected, "{i}");
    }
    for (layer, field) in [
        (
            json!({"activation": {"function": "relu", "kernel_regularizer": {"l2": 1.0}}}),
            "kernel_regularizer",
        ),
        (
            json!({"dense": {"units": 2, "use_bias": false, "bias_regularizer": {"l2": 1.0}}}),
            "bias_regularizer",
        ),
        (
            json!({"residual": {"body": [{"dense": {"units": 2}}], "kernel_regularizer": {"l2": 1.0}}}),
            "kernel_regularizer",
        ),
    ] {
        let error = build(json!([layer]), &[2], json!({"mse": {}}), 2)
            .map(drop)
            .unwrap_err();
        let told = format!("`{field}` given, but this layer has no such parameters of its own");
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let cross_entropy = json!({"cross_entropy": {}});
    for (layers, loss, needles) in [
        (
            json!([{"conv2d": {"filters": 2, "kernel": 9}}]),
            &cross_entropy,
            ["layer 0 (conv2d)", "9x9"],
        ),
        (
            json!([{"conv2d": {"filters": 2, "kernel": 3}}, {"dense": {"units": 10}}]),
            &cross_entropy,
            ["layer 1 (dense)", "[2, 6, 6]"],
        ),
        (
            json!([{"flatten": {}}, {"dense": {"units": 9}}]),
            &cross_entropy,
            ["layer 1 (dense)", "[10]"],
        ),
        (
            json!([{"flatten": {}}, {"dropout": {"rate": 1.0}}, {"dense": {"units": 10}}]),
            &cross_entropy,
            ["layer 1 (dropout)", "[0, 1)"],
        ),
        (
            json!([{"activation": {"function": "relu", "alpha": 0.1}}]),
            &cross_entropy,
            ["layer 0 (activation)", "alpha"],
        ),
        (
            json!([{"batch_norm": {"momentum": 1.0}}]),
            &cross_entropy,
            ["layer 0 (batch_norm)", "momentum 1"],
        ),
        (
            json!([{"flatten": {}}, {"dense": {"units": 10}}]),
            &json!({"huber": {"delta": 0.0}}),
            ["huber.delta", "numbers above 0"],
        ),
        (json!([]), &cross_entropy, ["model", "at least one"]),
    ] {
        let error = build(layers, &[1, 8, 8], loss.clone(), 10)
            .unwrap_err()
            .to_string();
        for needle in needles {
            assert!(error.contains(needle), "{error}: no `{needle}`");
        }
    }
}

#[test]
fn bad_batches_are_named() {
    let dense = json!([{"dense": {"units": 3}}]);
    let (mut gradients, mut none) = ([0.0; 9], []);
    let mut run = |loss: serde_json::Value, features: &[f32], targets: Targets<'_>| {
        let network = build(dense.clone(), &[2], loss, 3).unwrap();
        network
            .shard_step(features, targets, Key::new(1), &mut gradients, &mut none)
            .unwrap_err()
            .to_string()
    };
    let label = run(
        json!({"cross_entropy": {}}),
        &[0.0; 4],
        Targets::Classes(&[0, 3]),
    );
    assert!(label.contains("class 3 of sample 1"), "{label}");
    let values = run(
        json!({"categorical_hinge": {}}),
        &[0.0; 2],
        Targets::Values(&[0.0; 3]),
    );
    assert!(values.contains("class numbers"), "{values}");
    let range = run(
        json!({"binary_cross_entropy": {}}),
        &[0.0; 2],
        Targets::Values(&[0.0, 1.5, 0.0]),
    );
    assert!(range.contains("1.5") && range.contains("[0, 1]"), "{range}");
    let length = run(json!({"mse": {}}), &[0.0; 3], Targets::Values(&[0.0; 3]));
    assert!(
        length.contains("features has 3 values, expected 2"),
        "{length}"
    );
}

#[test]
fn nan_reaches_the_loss() {
    let network = everything();
    let mut features = features(3 * network.sample_len());
    features[40] = f32::NAN;
    let outcome = network
        .evaluate(&features, Targets::Classes(&[1, 2, 3]))
        .unwrap();
    assert!(outcome.loss_sum.is_nan());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn cuda_needs_its_feature() {
    use trainyard_common::spec;
    assert!(open_device(spec::Device::Cpu).unwrap().is_cpu());
    let error = open_device(spec::Device::Cuda).unwrap_err().to_string();
    assert!(error.contains("cuda") && error.contains("cpu"), "{error}");
}

#[test]
fn indices_are_checked_before_a_table_is_asked() {
    let network = build(
        json!([
            {"embedding": {"vocabulary": 5, "dimensions": 3, "name": "words"}},
            {"flatten": {}},
            {"dense": {"units": 10}},
        ]),
        &[4],
        json!({"cross_entropy": {}}),
        10,
    )
    .unwrap();
    let targets = [3, 4];
    let targets = Targets::Classes(&targets);
    let mut gradients = vec![0.0; network.gradient_len()];
    for (wrong, shown) in [
        (5.0, "5"),
        (-1.0, "-1"),
        (0.5, "0.5"),
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
    ] {
        let mut features = vec![0.0, 4.0, 2.0, 1.0, 3.0, 3.0, 0.0, 1.0];
        network.predict(&features, 2).unwrap();
        features[6] = wrong;
        let message = format!(
            "value {shown} of sample 1 is no index; layer words (embedding) accepts whole numbers from 0 to 4, without \
             `preprocess.scaling`"
        );
        let error = network.predict(&features, 2).unwrap_err();
        assert_eq!(error.to_string(), message);
        let error = network.evaluate(&features, targets).unwrap_err();
        assert_eq!(error.to_string(), message);
        let error = network
            .shard_step(&features, targets, Key::new(1), &mut gradients, &mut [])
            .unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn gradient_passes_attention_by_the_mask_of_the_forward_pass() {
    let layers = json!([
        {"multi_head_attention": {"heads": 2, "key_dim": 3, "dropout": 0.4}},
        {"flatten": {}},
        {"dense": {"units": 10}},
    ]);
    let network = build(layers, &[5, 4], json!({"cross_entropy": {}}), 10).unwrap();
    let (features, labels) = (features(6 * 20), labels(6));
    let loss = |gradients: &mut [f32], key: u64| {
        let targets = Targets::Classes(&labels);
        network
            .shard_step(&features, targets, Key::new(key), gradients, &mut [])
            .unwrap()
            .loss_sum
    };
    let mut gradients = vec![0.0; network.gradient_len()];
    let middle = loss(&mut gradients, 3);
    assert_ne!(
        middle,
        loss(&mut gradients.clone(), 4),
        "nothing is dropped"
    );
    // A step along the gradient changes the loss by its squared length.
    let mut parameters = vec![0.0; network.gradient_len()];
    network.read_parameters(&mut parameters).unwrap();
    let square: f64 = gradients.iter().map(|&g| f64::from(g).powi(2)).sum();
    let step = 1e-3 / square.sqrt();
    let along = |sign: f64| {
        let moved: Vec<f32> = parameters
            .iter()
            .zip(&gradients)
            .map(|(&p, &g)| (f64::from(p) + sign * step * f64::from(g)) as f32)
            .collect();
        network.write_parameters(&moved).unwrap();
        loss(&mut vec![0.0; gradients.len()], 3)
    };
    let slope = (along(1.0) - along(-1.0)) / (2.0 * step);
    assert!((slope - square).abs() < 0.01 * square, "{slope} {square}");
}

#[test]
fn a_network_for_which_there_is_no_memory_is_refused_before_any_of_it_is_made() {
    let layers: Vec<_> = (0..200)
        .map(|_| json!({"dense": {"units": 40_000}}))
        .collect();
    let loss = json!({"mse": {}});
    let error = build(json!(layers), &[40_000], loss, 40_000)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, ModelError::Memory { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("320008000000 parameters: out of memory"),
        "{error}"
    );
}
