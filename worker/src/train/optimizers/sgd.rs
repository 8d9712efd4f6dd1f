//! Stochastic gradient descent, with momentum or without.

use trainyard_common::spec::optimizers::SgdSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
struct Sgd {
    learning_rate: f32,
    momentum: f32,
    /// 1 - dampening; 1 at the first step.
    rest: f32,
    nesterov: bool,
    weight_decay: f32,
}

impl Rule for SgdSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        match self.momentum == 0.0 {
            true => Vec::new(),
            false => vec![("momentum", 0.0)],
        }
    }

    fn step(&mut self, t: u64, learning_rate: f64) -> Box<dyn Step> {
        Box::new(Sgd {
            learning_rate: learning_rate as f32,
            momentum: self.momentum as f32,
            rest: match t {
                1 => 1.0,
                _ => (1.0 - self.dampening) as f32,
            },
            nesterov: self.nesterov,
            weight_decay: self.weight_decay as f32,
        })
    }
}

impl Step for Sgd {
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        if state.is_empty() {
            self.update_plain(gradient, p, g);
        } else {
            let [v] = buffers(state);
            self.update_with_momentum(gradient, p, g, v);
        }
    }
}

impl Sgd {
    /// v <- momentum v + rest g; p <- p - learning_rate v, or with Nesterov learning_rate (g + momentum v).
    fn update_with_momentum(self, gradient: Gradient, p: &mut [f32], g: &[f32], v: &mut [f32]) {
        for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
            let g = gradient.of(*g) + self.weight_decay * *p;
            *v = self.momentum * *v + self.rest * g;
            let direction = if self.nesterov {
                g + self.momentum * *v
            } else {
                *v
            };
            *p -= self.learning_rate * direction;
        }
    }

    /// Without momentum: p <- p - learning_rate g.
    fn update_plain(self, gradient: Gradient, p: &mut [f32], g: &[f32]) {
        for (p, g) in p.iter_mut().zip(g) {
            *p -= self.learning_rate * (gradient.of(*g) + self.weight_decay * *p);
        }
    }
}
