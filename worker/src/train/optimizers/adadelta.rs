//! Adadelta.

use trainyard_common::spec::optimizers::AdadeltaSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
struct Adadelta {
    learning_rate: f32,
    rho: f32,
    rest: f32,
    epsilon: f32,
}

impl Rule for AdadeltaSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("square", 0.0), ("delta", 0.0)]
    }

    fn step(&mut self, _: u64, learning_rate: f64) -> Box<dyn Step> {
        Box::new(Adadelta {
            learning_rate: learning_rate as f32,
            rho: self.rho as f32,
            rest: (1.0 - self.rho) as f32,
            epsilon: self.epsilon as f32,
        })
    }
}

impl Step for Adadelta {
    /// s <- rho s + (1 - rho) g^2; d = g sqrt(u + epsilon) / sqrt(s + epsilon); u <- rho u + (1 - rho) d^2;
    /// p <- p - learning_rate d (Zeiler 2012, algorithm 1).
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        let [s, u] = buffers(state);
        for (((p, g), s), u) in p.iter_mut().zip(g).zip(s).zip(u) {
            let g = gradient.of(*g);
            *s = self.rho * *s + self.rest * (g * g);
            let delta = (*u + self.epsilon).sqrt() / (*s + self.epsilon).sqrt() * g;
            *u = self.rho * *u + self.rest * (delta * delta);
            *p -= self.learning_rate * delta;
        }
    }
}
