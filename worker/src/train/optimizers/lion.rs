//! Lion.

use trainyard_common::spec::optimizers::LionSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
struct Lion {
    learning_rate: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    weight_decay: f32,
}

impl Rule for LionSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("m", 0.0)]
    }

    fn step(&mut self, _: u64, learning_rate: f64) -> Box<dyn Step> {
        Box::new(Lion {
            learning_rate: learning_rate as f32,
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            weight_decay: self.weight_decay as f32,
        })
    }
}

impl Step for Lion {
    /// p <- p - learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay p); m <- beta2 m + (1 - beta2) g
    /// (Chen et al. 2023, algorithm 2).
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        let [m] = buffers(state);
        for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
            let g = gradient.of(*g);
            let direction = sign(self.beta1 * *m + self.rest1 * g);
            *p -= self.learning_rate * (direction + self.weight_decay * *p);
            *m = self.beta2 * *m + self.rest2 * g;
        }
    }
}

/// -1, 0 or 1; what is no number stays none, so that it is seen.
#[inline(always)]
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}
