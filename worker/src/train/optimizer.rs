//! Parameter updates as one fused pass over flat buffers.
//!
//! Each number is updated by itself, so that neither the split into blocks nor the number of threads
//! changes anything.

use rayon::prelude::*;
use trainyard_common::spec::training::OptimizerSpec;

/// Numbers that one task updates: its four buffers fit a core's second-level cache.
const BLOCK: usize = 32 * 1024;

/// An optimizer with its state for all parameters of a network.
#[derive(Debug, Clone)]
pub(crate) struct Optimizer {
    spec: OptimizerSpec,
    /// Updates so far.
    steps: u64,
    slots: Vec<Slot>,
}

/// One number of state for each parameter.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// `m`, `v` (Adam's moments) or `momentum`.
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f32>,
}

impl Optimizer {
    /// For `len` parameters; all state is 0.
    pub(crate) fn new(spec: &OptimizerSpec, len: usize) -> Self {
        let names: &[&'static str] = match spec {
            OptimizerSpec::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            OptimizerSpec::Sgd(_) => &["momentum"],
            OptimizerSpec::Adam(_) | OptimizerSpec::Adamw(_) => &["m", "v"],
        };
        let slot = |&name| Slot {
            name,
            values: vec![0.0; len],
        };
        Self {
            spec: spec.clone(),
            steps: 0,
            slots: names.iter().map(slot).collect(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.spec {
            OptimizerSpec::Sgd(_) => "sgd",
            OptimizerSpec::Adam(_) => "adam",
            OptimizerSpec::Adamw(_) => "adamw",
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    /// Begins the next step; `divisor` is what summed gradients are divided by.
    pub(crate) fn begin(&mut self, divisor: f64) -> Update<'_> {
        self.steps += 1;
        Update {
            rule: Rule::at(&self.spec, self.steps),
            divisor: divisor as f32,
            slots: &mut self.slots,
        }
    }
}

/// One step under way.
#[derive(Debug)]
pub(crate) struct Update<'a> {
    rule: Rule,
    divisor: f32,
    slots: &'a mut [Slot],
}

impl Update<'_> {
    /// Updates the parameters that begin at `offset` of the flat buffers; `gradients` are theirs.
    pub(crate) fn apply(&mut self, offset: usize, parameters: &mut [f32], gradients: &[f32]) {
        let range = offset..offset + parameters.len();
        let divisor = self.divisor;
        let blocks = parameters
            .par_chunks_mut(BLOCK)
            .zip(gradients.par_chunks(BLOCK));
        match (self.rule, &mut *self.slots) {
            (Rule::Sgd(rule), [momentum]) => blocks
                .zip(momentum.values[range].par_chunks_mut(BLOCK))
                .for_each(|((p, g), v)| rule.update(p, g, v, divisor)),
            (Rule::Sgd(rule), _) => blocks.for_each(|(p, g)| rule.update_plain(p, g, divisor)),
            (Rule::Adam(rule), [m, v]) => blocks
                .zip(m.values[range.clone()].par_chunks_mut(BLOCK))
                .zip(v.values[range].par_chunks_mut(BLOCK))
                .for_each(|(((p, g), m), v)| rule.update(p, g, m, v, divisor)),
            (Rule::Adam(_), _) => unreachable!("adam has two slots"),
        }
    }
}

/// The numbers of one step's update, computed in f64 and rounded once.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

#[derive(Debug, Clone, Copy)]
struct Sgd {
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
}

#[derive(Debug, Clone, Copy)]
struct Adam {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// learning_rate / (1 - beta1^t)
    step_size: f32,
    /// sqrt(1 - beta2^t)
    root: f32,
    epsilon: f32,
    /// 1 - learning_rate * weight_decay; 1 without decay.
    keep: f32,
}

impl Rule {
    /// At step `t`, counted from 1.
    fn at(spec: &OptimizerSpec, t: u64) -> Self {
        match spec {
            OptimizerSpec::Sgd(sgd) => Self::Sgd(Sgd {
                learning_rate: sgd.learning_rate as f32,
                momentum: sgd.momentum as f32,
                nesterov: sgd.nesterov,
                weight_decay: sgd.weight_decay as f32,
            }),
            OptimizerSpec::Adam(adam) => Self::Adam(Adam::at(
                adam.learning_rate,
                (adam.beta1, adam.beta2),
                adam.epsilon,
                0.0,
                t,
            )),
            OptimizerSpec::Adamw(adam) => Self::Adam(Adam::at(
                adam.learning_rate,
                (adam.beta1, adam.beta2),
                adam.epsilon,
                adam.weight_decay,
                t,
            )),
        }
    }
}

impl Sgd {
    /// v <- momentum v + g; p <- p - learning_rate v, or with Nesterov learning_rate (g + momentum v).
    fn update(self, p: &mut [f32], g: &[f32], v: &mut [f32], divisor: f32) {
        for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
            let g = g / divisor + self.weight_decay * *p;
            *v = self.momentum * *v + g;
            let direction = if self.nesterov {
                g + self.momentum * *v
            } else {
                *v
            };
            *p -= self.learning_rate * direction;
        }
    }

    /// Without momentum: p <- p - learning_rate g.
    fn update_plain(self, p: &mut [f32], g: &[f32], divisor: f32) {
        for (p, g) in p.iter_mut().zip(g) {
            *p -= self.learning_rate * (g / divisor + self.weight_decay * *p);
        }
    }
}

impl Adam {
    fn at(
        learning_rate: f64,
        (beta1, beta2): (f64, f64),
        epsilon: f64,
        decay: f64,
        t: u64,
    ) -> Self {
        // Beyond 2^31 steps both powers are 0 anyway.
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        Self {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            step_size: (learning_rate / (1.0 - beta1.powi(t))) as f32,
            root: (1.0 - beta2.powi(t)).sqrt() as f32,
            epsilon: epsilon as f32,
            keep: (1.0 - learning_rate * decay) as f32,
        }
    }

    /// m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    /// p <- keep p - learning_rate m_hat / (sqrt(v_hat) + epsilon) (Kingma and Ba 2015, algorithm 1;
    /// `keep` of Loshchilov and Hutter 2019, algorithm 2).
    fn update(self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], divisor: f32) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g / divisor;
            *m = self.beta1 * *m + self.rest1 * g;
            *v = self.beta2 * *v + self.rest2 * (g * g);
            let denominator = v.sqrt() / self.root + self.epsilon;
            *p = self.keep * *p - self.step_size * (*m / denominator);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use trainyard_common::spec::training::{AdamSpec, AdamwSpec, SgdSpec};

    use super::*;

    /// Written by `worker/tests/reference/make_optimizers.py` with PyTorch.
    const REFERENCE: &str = include_str!("../../tests/reference/optimizers.json");
    /// Both compute in f32, in slightly different orders: a few units in the last place a step.
    const TOLERANCE: f32 = 2e-6;

    #[derive(Deserialize)]
    struct Reference {
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        after: BTreeMap<String, Vec<Vec<f32>>>,
    }

    fn sgd(learning_rate: f64, momentum: f64, nesterov: bool, weight_decay: f64) -> OptimizerSpec {
        OptimizerSpec::Sgd(SgdSpec {
            learning_rate,
            momentum,
            nesterov,
            weight_decay,
        })
    }

    fn adam(learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64) -> OptimizerSpec {
        OptimizerSpec::Adam(AdamSpec {
            learning_rate,
            beta1,
            beta2,
            epsilon,
        })
    }

    fn adamw() -> OptimizerSpec {
        OptimizerSpec::Adamw(AdamwSpec {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
            weight_decay: 0.1,
        })
    }

    fn cases() -> Vec<(&'static str, OptimizerSpec)> {
        vec![
            ("sgd", sgd(0.1, 0.0, false, 0.0)),
            ("sgd_momentum", sgd(0.05, 0.9, false, 0.0)),
            ("sgd_nesterov", sgd(0.05, 0.9, true, 0.0)),
            ("sgd_nesterov_decay", sgd(0.05, 0.8, true, 0.1)),
            ("adam", adam(0.01, 0.9, 0.999, 1e-7)),
            ("adam_large_epsilon", adam(0.1, 0.8, 0.95, 0.1)),
            ("adamw", adamw()),
        ]
    }

    #[test]
    fn updates_are_those_of_pytorch() {
        let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
        assert_eq!(reference.after.len(), cases().len());
        for (name, spec) in cases() {
            let mut optimizer = Optimizer::new(&spec, reference.start.len());
            let mut parameters = reference.start.clone();
            for (gradients, expected) in reference.gradients.iter().zip(&reference.after[name]) {
                // Summed over four samples, as a trainer hands them over.
                let summed: Vec<f32> = gradients.iter().map(|g| g * 4.0).collect();
                optimizer.begin(4.0).apply(0, &mut parameters, &summed);
                for (ours, theirs) in parameters.iter().zip(expected) {
                    let error = (ours - theirs).abs();
                    assert!(
                        error <= TOLERANCE * theirs.abs().max(1.0),
                        "{name}, step {}: {ours}, PyTorch {theirs}",
                        optimizer.steps()
                    );
                }
            }
        }
    }

    #[test]
    fn blocks_and_threads_and_offsets_change_nothing() {
        let len = 2 * BLOCK + 77;
        let number = |at: usize| ((at % 1013) as f32 - 500.0) / 321.0;
        let gradients: Vec<f32> = (0..len).map(number).collect();
        for (name, spec) in cases() {
            let run = |threads: usize, cut: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| {
                    let mut optimizer = Optimizer::new(&spec, len);
                    let mut parameters: Vec<f32> = (0..len).map(|at| number(at * 7)).collect();
                    for _ in 0..3 {
                        let mut update = optimizer.begin(8.0);
                        let (left, right) = parameters.split_at_mut(cut);
                        update.apply(0, left, &gradients[..cut]);
                        update.apply(cut, right, &gradients[cut..]);
                    }
                    parameters
                })
            };
            let whole = run(1, len);
            assert_eq!(whole, run(3, len), "{name}");
            assert_eq!(whole, run(2, 12_345), "{name}");
        }
    }
}
