//! What moves over images, on any number of threads.

use candle_core::Device;
use serde_json::json;
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_network::{Network, Targets};

/// Layers whose sizes do not divide evenly, of every way to compute them.
fn network() -> Network {
    let layers = json!([
        {"conv2d": {"filters": 12, "kernel": 3, "padding": 2, "dilation": 2, "activation": "relu"}},
        {"conv2d": {"filters": 24, "kernel": 3, "groups": 12, "stride": 2, "padding": 1}},
        {"max_pool2d": {"size": 3, "stride": 1, "padding": 1}},
        {"conv2d": {"filters": 9, "kernel": 3, "groups": 3, "padding": [[2, 1], [0, 1]], "activation": "relu"}},
        {"avg_pool2d": {"size": 3, "stride": 2, "padding": 1, "ceil": true, "count_padding": true}},
        {"flatten": {}},
        {"dense": {"units": 10}},
    ]);
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
    let loss = serde_json::from_value(json!({"cross_entropy": {}})).unwrap();
    let (key, device) = (Key::new(7), Device::Cpu);
    Network::build(
        &spec,
        &[3, 33, 29],
        &loss,
        TargetKind::Classes(Some(10)),
        key,
        &device,
        u64::MAX,
    )
    .unwrap()
}

#[test]
fn threads_do_not_change_a_bit() {
    const SAMPLES: usize = 11;
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let network = network();
            let key = Key::new(11);
            let features: Vec<f32> = (0..(SAMPLES * network.sample_len()) as u64)
                .map(|i| key.normal(i) as f32)
                .collect();
            let labels: Vec<u32> = (0..SAMPLES as u32).map(|i| i * 7 % 10).collect();
            let mut gradients = vec![f32::NAN; network.gradient_len()];
            let targets = Targets::Classes(&labels);
            let (features, mask) = (&features, Key::new(5));
            let outcome = network
                .shard_step(features, targets, mask, &mut gradients, &mut [])
                .unwrap();
            let bits: Vec<u32> = gradients.iter().map(|value| value.to_bits()).collect();
            (outcome, bits)
        })
    };
    let one = run(1);
    assert!(one.0.loss_sum.is_finite() && one.1.iter().any(|&bits| bits != 0));
    for threads in [2, 3, 5] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
