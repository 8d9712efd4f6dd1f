//! Adam with Nesterov momentum.

use trainyard_common::spec::optimizers::NadamSpec;

use super::{Gradient, Rule, Step, buffers};

/// The rule, with the product of all momenta up to a step: a function of the step, kept so that the next
/// one need not begin again.
#[derive(Debug)]
pub(super) struct NadamRule {
    spec: NadamSpec,
    /// The step whose product this is.
    at: u64,
    product: f64,
}

#[derive(Debug, Clone, Copy)]
struct Nadam {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// learning_rate (1 - mu_t) / (1 - mu_1 ... mu_t)
    of_gradient: f32,
    /// learning_rate mu_(t+1) / (1 - mu_1 ... mu_(t+1))
    of_moment: f32,
    /// sqrt(1 - beta2^t)
    root: f32,
    epsilon: f32,
}

impl From<NadamSpec> for NadamRule {
    fn from(spec: NadamSpec) -> Self {
        Self {
            spec,
            at: 0,
            product: 1.0,
        }
    }
}

impl NadamRule {
    /// The momentum of step `t`.
    fn mu(&self, t: u64) -> f64 {
        let power = libm::pow(0.96, t as f64 * self.spec.momentum_decay);
        self.spec.beta1 * (1.0 - 0.5 * power)
    }

    /// mu_1 ... mu_t
    fn product(&mut self, t: u64) -> f64 {
        if t < self.at {
            (self.at, self.product) = (0, 1.0);
        }
        // Once it is 0 it stays there, which is soon: a run that goes on late need not begin at step 1 for long.
        while self.at < t && self.product > 0.0 {
            self.at += 1;
            self.product *= self.mu(self.at);
        }
        self.at = t;
        self.product
    }
}

impl Rule for NadamRule {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("m", 0.0), ("v", 0.0)]
    }

    fn step(&mut self, t: u64, learning_rate: f64) -> Box<dyn Step> {
        let product = self.product(t);
        let (now, next) = (self.mu(t), self.mu(t + 1));
        let NadamSpec { beta1, beta2, .. } = self.spec;
        // Beyond 2^31 steps the power is 0 anyway.
        let power = beta2.powi(i32::try_from(t).unwrap_or(i32::MAX));
        Box::new(Nadam {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            of_gradient: (learning_rate * (1.0 - now) / (1.0 - product)) as f32,
            of_moment: (learning_rate * next / (1.0 - product * next)) as f32,
            root: (1.0 - power).sqrt() as f32,
            epsilon: self.spec.epsilon as f32,
        })
    }
}

impl Step for Nadam {
    /// The moments of Adam; p <- p - (of_gradient g + of_moment m) / (sqrt(v_hat) + epsilon) (Dozat 2016, algorithm 2).
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        let [m, v] = buffers(state);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = gradient.of(*g);
            *m = self.beta1 * *m + self.rest1 * g;
            *v = self.beta2 * *v + self.rest2 * (g * g);
            let denominator = v.sqrt() / self.root + self.epsilon;
            *p -= (self.of_gradient * g + self.of_moment * *m) / denominator;
        }
    }
}
