//! Samples a second of a training step (forward, loss, backward, Adam) on random data.
//!
//! By the clock and, as other programs disturb that, by the processor time of this one (Linux).
//! `cargo run --release --example step_speed`; `benches/train_step.py` is the same in PyTorch.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::Device;
use serde_json::json;
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

/// (name, layers, sample shape, batch).
fn nets() -> [(&'static str, serde_json::Value, Vec<usize>, usize); 3] {
    [
        (
            "A conv 32 3x3, pool, dropout, dense 256",
            json!([
                {"conv2d": {"filters": 32, "kernel": 3, "activation": "relu"}},
                {"max_pool2d": {}},
                {"dropout": {"rate": 0.25}},
                {"flatten": {}},
                {"dense": {"units": 256, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
            vec![1, 28, 28],
            64,
        ),
        (
            "B conv 80 3x3, conv 32 3x3, dense 96",
            json!([
                {"conv2d": {"filters": 80, "kernel": 3, "activation": "relu"}},
                {"conv2d": {"filters": 32, "kernel": 3, "activation": "relu"}},
                {"flatten": {}},
                {"dense": {"units": 96, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
            vec![1, 28, 28],
            32,
        ),
        (
            "E dense 512, dense 512",
            json!([
                {"dense": {"units": 512, "activation": "relu"}},
                {"dense": {"units": 512, "activation": "relu"}},
                {"dense": {"units": 10}},
            ]),
            vec![784],
            128,
        ),
    ]
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

fn measure(
    layers: &serde_json::Value,
    shape: &[usize],
    batch: usize,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers }))?;
    let loss: Loss = serde_json::from_value(json!({"cross_entropy": {}}))?;
    let network = Network::build(
        &spec,
        shape,
        &loss,
        TargetKind::Classes(Some(10)),
        Key::new(1),
        &Device::Cpu,
        u64::MAX,
    )?;
    let key = Key::new(2);
    let len = (batch * network.sample_len()) as u64;
    let features: Vec<f32> = (0..len).map(|i| key.unit(i) as f32).collect();
    let labels: Vec<u32> = (0..batch as u64)
        .map(|i| key.below(len + i, 10) as u32)
        .collect();
    let mut gradients = vec![0.0; network.gradient_len()];
    let mut adam = Adam {
        m: gradients.clone(),
        v: gradients.clone(),
        step: 0,
    };
    let mut step = |k: u64| -> Result<(), ModelError> {
        let targets = Targets::Classes(&labels);
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        for (name, layers, shape, batch) in nets() {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let rate = pool.install(|| {
                    measure(&layers, &shape, batch).map_err(|error| error.to_string())
                })?;
                rates.push(rate);
            }
            rates.sort_by(|a: &(f64, f64), b| a.1.total_cmp(&b.1));
            let (clock, cpu) = rates[ROUNDS / 2];
            println!(
                "{threads} threads, net {name}, batch {batch}: {clock:.0} samples/s, {cpu:.0} a processor second"
            );
        }
    }
    Ok(())
}
