//! Adagrad.

use trainyard_common::spec::optimizers::AdagradSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
struct Adagrad {
    learning_rate: f32,
    epsilon: f32,
}

impl Rule for AdagradSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("accumulator", self.initial_accumulator_value as f32)]
    }

    fn step(&mut self, _: u64, learning_rate: f64) -> Box<dyn Step> {
        Box::new(Adagrad {
            learning_rate: learning_rate as f32,
            epsilon: self.epsilon as f32,
        })
    }
}

impl Step for Adagrad {
    /// a <- a + g^2; p <- p - learning_rate g / (sqrt(a) + epsilon) (Duchi, Hazan and Singer 2011).
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        let [a] = buffers(state);
        for ((p, g), a) in p.iter_mut().zip(g).zip(a) {
            let g = gradient.of(*g);
            *a += g * g;
            *p -= self.learning_rate * (g / (a.sqrt() + self.epsilon));
        }
    }
}
