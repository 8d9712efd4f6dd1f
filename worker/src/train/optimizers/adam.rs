//! Adam, and the step that others of its kind share.

use trainyard_common::spec::optimizers::AdamSpec;

use super::{Gradient, Rule, Step, buffers};

#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
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

/// The state of Adam and what is of its kind.
pub(super) fn slots(amsgrad: bool) -> Vec<(&'static str, f32)> {
    let largest = amsgrad.then_some(("v_max", 0.0));
    [("m", 0.0), ("v", 0.0)]
        .into_iter()
        .chain(largest)
        .collect()
}

impl Rule for AdamSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        slots(self.amsgrad)
    }

    fn step(&mut self, t: u64, learning_rate: f64) -> Box<dyn Step> {
        let betas = (self.beta1, self.beta2);
        Box::new(Adam::at(learning_rate, betas, self.epsilon, 0.0, t))
    }
}

impl Adam {
    /// The numbers of step `t`, with `decay` of the weights.
    pub(super) fn at(
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
}

impl Step for Adam {
    /// m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    /// p <- keep p - learning_rate m_hat / (sqrt(v_hat) + epsilon) (Kingma and Ba 2015, algorithm 1;
    /// `keep` of Loshchilov and Hutter 2019, algorithm 2). With a third buffer v_hat is of the largest v so far
    /// (Reddi et al. 2018, as PyTorch has it).
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>) {
        if state.len() == 2 {
            let [m, v] = buffers(state);
            for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                self.moments(gradient.of(*g), m, v);
                self.take(p, *m, *v);
            }
        } else {
            let [m, v, largest] = buffers(state);
            for ((((p, g), m), v), largest) in p.iter_mut().zip(g).zip(m).zip(v).zip(largest) {
                self.moments(gradient.of(*g), m, v);
                *largest = largest.max(*v);
                self.take(p, *m, *largest);
            }
        }
    }
}

impl Adam {
    #[inline(always)]
    fn moments(&self, g: f32, m: &mut f32, v: &mut f32) {
        *m = self.beta1 * *m + self.rest1 * g;
        *v = self.beta2 * *v + self.rest2 * (g * g);
    }

    #[inline(always)]
    fn take(&self, p: &mut f32, m: f32, v: f32) {
        let denominator = v.sqrt() / self.root + self.epsilon;
        *p = self.keep * *p - self.step_size * (m / denominator);
    }
}
