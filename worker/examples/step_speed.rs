//! Samples a second of a training step (forward, loss, backward, Adam) on random data.
//!
//! By the clock and, as other programs disturb that, by the processor time of this one (Linux).
//! `cargo run --release --example step_speed`; `benches/train_step.py` is the same in PyTorch.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::Device;
use serde_json::{Value, json};
use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::training::Loss;
use trainyard_network::{ModelError, Network, Targets};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seconds of one measurement, and their number; the median is printed.
const SECONDS: f64 = 2.0;
const ROUNDS: usize = 3;

/// Ticks a second in /proc: 100 on every Linux that is built without a change to it.
const TICKS: f64 = 100.0;

/// Processor seconds of this process so far; 0 where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses the state is field 3; user and system ticks are 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// A network, what it is fed with and what it puts out.
struct Net {
    name: &'static str,
    layers: Value,
    shape: Vec<usize>,
    batch: usize,
    /// One: a value and the mean squared error; otherwise classes and cross-entropy.
    outputs: usize,
    /// Features are whole numbers below this.
    vocabulary: Option<u64>,
}

impl Net {
    fn images(name: &'static str, shape: &[usize], batch: usize, layers: Value) -> Self {
        Self {
            name,
            layers,
            shape: shape.to_vec(),
            batch,
            outputs: 10,
            vocabulary: None,
        }
    }
}

fn nets() -> [Net; 5] {
    let image = [1, 28, 28];
    [
        Net::images(
            "A conv 32 3x3, pool, dropout, dense 256",
            &image,
            64,
            json!([
                {"conv2d": {"filters": 32, "kernel": 3, "activation": "relu"}},
                {"max_pool2d": {}},
                {"dropout": {"rate": 0.25}},
                {"flatten": {}},
                {"dense": {"units": 256, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
        ),
        Net::images(
            "B conv 80 3x3, conv 32 3x3, dense 96",
            &image,
            32,
            json!([
                {"conv2d": {"filters": 80, "kernel": 3, "activation": "relu"}},
                {"conv2d": {"filters": 32, "kernel": 3, "activation": "relu"}},
                {"flatten": {}},
                {"dense": {"units": 96, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
        ),
        Net::images(
            "E dense 512, dense 512",
            &[784],
            128,
            json!([
                {"dense": {"units": 512, "activation": "relu"}},
                {"dense": {"units": 512, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
        ),
        lstms(),
        encoder(),
    ]
}

fn lstms() -> Net {
    let lstm = |sequences: bool| json!({"lstm": {"units": 50, "return_sequences": sequences}});
    let dropout = json!({"dropout": {"rate": 0.2}});
    let layers = [
        lstm(true),
        dropout.clone(),
        lstm(true),
        dropout.clone(),
        lstm(true),
        dropout.clone(),
        lstm(false),
        dropout,
        json!({"dense": {"units": 1}}),
    ];
    Net {
        name: "F four lstm 50, 60 steps",
        layers: layers.to_vec().into(),
        shape: vec![60, 1],
        batch: 32,
        outputs: 1,
        vocabulary: None,
    }
}

/// Two blocks of an encoder, normalized first, over 64 words of a vocabulary of 1,000.
fn encoder() -> Net {
    let attention = json!({"multi_head_attention": {"heads": 4, "key_dim": 16}});
    let block = json!([
        {"residual": {"body": [{"layer_norm": {}}, attention]}},
        {"residual": {"body": [
            {"layer_norm": {}}, {"dense": {"units": 256, "activation": "relu"}}, {"dense": {"units": 64}}]}},
    ]);
    Net {
        name: "I embedding 64, two blocks of 4 heads and dense 256, 64 steps",
        layers: json!([
            {"embedding": {"vocabulary": 1000, "dimensions": 64}},
            {"positional_encoding": {"kind": "learned"}},
            {"repeat": {"times": 2, "layers": block}},
            {"layer_norm": {}},
            {"permute": {"order": [2, 1]}},
            {"reshape": {"shape": [64, 64, 1]}},
            {"global_avg_pool2d": {}},
            {"dense": {"units": 10}},
        ]),
        shape: vec![64],
        batch: 32,
        outputs: 10,
        vocabulary: Some(1000),
    }
}

/// Adam over the flat gradient, so that the step does what PyTorch's does.
struct Adam {
    m: Vec<f32>,
    v: Vec<f32>,
    step: i32,
}

impl Adam {
    fn update(
        &mut self,
        network: &Network,
        gradients: &[f32],
        samples: usize,
    ) -> Result<(), ModelError> {
        self.step += 1;
        let rate = 1e-3 * (1.0 - 0.999f32.powi(self.step)).sqrt() / (1.0 - 0.9f32.powi(self.step));
        let scale = 1.0 / samples as f32;
        network.update_parameters(|offset, values| {
            let range = offset..offset + values.len();
            let moments = self.m[range.clone()]
                .iter_mut()
                .zip(&mut self.v[range.clone()]);
            for ((value, gradient), (m, v)) in values.iter_mut().zip(&gradients[range]).zip(moments)
            {
                let gradient = gradient * scale;
                *m = 0.9 * *m + 0.1 * gradient;
                *v = 0.999 * *v + 0.001 * gradient * gradient;
                *value -= rate * *m / (v.sqrt() + 1e-7);
            }
        })
    }
}

fn measure(net: &Net) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let (batch, outputs) = (net.batch, net.outputs);
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": net.layers }))?;
    let loss = if outputs == 1 { "mse" } else { "cross_entropy" };
    let loss: Loss = serde_json::from_value(json!({ loss: {} }))?;
    let network = Network::build(
        &spec,
        &net.shape,
        &loss,
        match outputs {
            1 => TargetKind::Values(Some(1)),
            _ => TargetKind::Classes(Some(outputs)),
        },
        Key::new(1),
        &Device::Cpu,
        u64::MAX,
    )?;
    let key = Key::new(2);
    let len = (batch * network.sample_len()) as u64;
    let features: Vec<f32> = (0..len)
        .map(|i| match net.vocabulary {
            Some(below) => key.below(i, below) as f32,
            None => key.unit(i) as f32,
        })
        .collect();
    let labels: Vec<u32> = (0..batch as u64)
        .map(|i| key.below(len + i, 10) as u32)
        .collect();
    let values: Vec<f32> = labels.iter().map(|&label| label as f32 / 10.0).collect();
    let mut gradients = vec![0.0; network.gradient_len()];
    let mut adam = Adam {
        m: gradients.clone(),
        v: gradients.clone(),
        step: 0,
    };
    let mut step = |k: u64| -> Result<(), ModelError> {
        let targets = match outputs {
            1 => Targets::Values(&values),
            _ => Targets::Classes(&labels),
        };
        network.shard_step(&features, targets, key.with(k), &mut gradients, &mut [])?;
        adam.update(&network, &gradients, batch)
    };
    (0..3).try_for_each(&mut step)?;
    let (start, cpu, mut steps) = (Instant::now(), cpu_seconds(), 0);
    while start.elapsed().as_secs_f64() < SECONDS {
        step(steps)?;
        steps += 1;
    }
    let samples = (steps as usize * batch) as f64;
    Ok((
        samples / start.elapsed().as_secs_f64(),
        samples / (cpu_seconds() - cpu),
    ))
}

/// `step_speed [letters of nets] [numbers of threads]`, such as `FI 1`; all without.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let letters = arguments.next().unwrap_or_default();
    let asked: Vec<usize> = arguments.filter_map(|text| text.parse().ok()).collect();
    let chosen = |net: &Net| letters.is_empty() || net.name.starts_with(|c| letters.contains(c));
    let all = vec![1, 2];
    for threads in if asked.is_empty() { all } else { asked } {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        for net in nets().iter().filter(|net| chosen(net)) {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let rate = pool.install(|| measure(net).map_err(|error| error.to_string()))?;
                rates.push(rate);
            }
            rates.sort_by(|a: &(f64, f64), b| a.1.total_cmp(&b.1));
            let (clock, cpu) = rates[ROUNDS / 2];
            let (name, batch) = (net.name, net.batch);
            println!(
                "{threads} threads, net {name}, batch {batch}: {clock:.0} samples/s, {cpu:.0} a processor second"
            );
        }
    }
    Ok(())
}
