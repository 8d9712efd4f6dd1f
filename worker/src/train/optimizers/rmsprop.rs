//! RMSprop.

use trainyard_common::spec::optimizers::RmspropSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
struct Rmsprop {
    learning_rate: f32,
    rho: f32,
    rest: f32,
    momentum: f32,
    centered: bool,
    epsilon: f32,
}

impl Rule for RmspropSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        let mean = self.centered.then_some(("mean", 0.0));
        let momentum = (self.momentum != 0.0).then_some(("momentum", 0.0));
        let square = std::iter::once(("square", 0.0));
        square.chain(mean).chain(momentum).collect()
    }

    fn step(&mut self, _: u64, learning_rate: f64) -> Box<dyn Step> {
        Box::new(Rmsprop {
            learning_rate: learning_rate as f32,
            rho: self.rho as f32,
            rest: (1.0 - self.rho) as f32,
            momentum: self.momentum as f32,
            centered: self.centered,
            epsilon: self.epsilon as f32,
        })
    }
}

impl Step for Rmsprop {
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        let gradients = g.iter().map(|g| gradient.of(*g));
        match (self.centered, self.momentum != 0.0) {
            (false, false) => {
                let [s] = buffers(state);
                for ((p, g), s) in p.iter_mut().zip(gradients).zip(s) {
                    *p -= self.learning_rate * self.scaled(g, s);
                }
            }
            (false, true) => {
                let [s, b] = buffers(state);
                for (((p, g), s), b) in p.iter_mut().zip(gradients).zip(s).zip(b) {
                    *b = self.momentum * *b + self.scaled(g, s);
                    *p -= self.learning_rate * *b;
                }
            }
            (true, false) => {
                let [s, m] = buffers(state);
                for (((p, g), s), m) in p.iter_mut().zip(gradients).zip(s).zip(m) {
                    *p -= self.learning_rate * self.centred(g, s, m);
                }
            }
            (true, true) => {
                let [s, m, b] = buffers(state);
                let rows = p.iter_mut().zip(gradients).zip(s).zip(m).zip(b);
                for ((((p, g), s), m), b) in rows {
                    *b = self.momentum * *b + self.centred(g, s, m);
                    *p -= self.learning_rate * *b;
                }
            }
        }
    }
}

impl Rmsprop {
    /// s <- rho s + (1 - rho) g^2; g / (sqrt(s) + epsilon) (Hinton 2012, lecture 6e).
    #[inline(always)]
    fn scaled(&self, g: f32, s: &mut f32) -> f32 {
        *s = self.rho * *s + self.rest * (g * g);
        g / (s.sqrt() + self.epsilon)
    }

    /// m <- rho m + (1 - rho) g as well; g / (sqrt(s - m^2) + epsilon) (Graves 2013, equations 38 to 41). Rounding
    /// can take s - m^2 below 0, which is taken for 0.
    #[inline(always)]
    fn centred(&self, g: f32, s: &mut f32, m: &mut f32) -> f32 {
        *s = self.rho * *s + self.rest * (g * g);
        *m = self.rho * *m + self.rest * g;
        g / ((*s - *m * *m).max(0.0).sqrt() + self.epsilon)
    }
}
