//! Adam with decoupled weight decay.

use trainyard_common::spec::optimizers::AdamwSpec;

use super::adam::{self, Adam};
use super::{Rule, Step};

impl Rule for AdamwSpec {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        adam::slots(self.amsgrad)
    }

    fn step(&mut self, t: u64, learning_rate: f64) -> Box<dyn Step> {
        let betas = (self.beta1, self.beta2);
        let decay = self.weight_decay;
        Box::new(Adam::at(learning_rate, betas, self.epsilon, decay, t))
    }
}
