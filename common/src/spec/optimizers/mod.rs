//! Optimizers: the fields of each, one file for each, and their list.
//!
//! Adding one takes its file here, a line in each of the lists below, and the file of its update rule in
//! the worker (`train/optimizers`). Schema, reference, messages and hyperparameters follow from the fields.

mod adadelta;
mod adagrad;
mod adam;
mod adamw;
mod lion;
mod nadam;
mod rmsprop;
mod sgd;

use super::findings::{Findings, Range};
use crate::listed::listed;

/// What is asked of every optimizer's fields.
trait Optimizer {
    /// The rate from which a schedule begins.
    fn learning_rate(&self) -> f64;

    /// Checks its other fields, which lie below `path`.
    fn check(&self, path: &str, found: &mut Findings);
}

listed! {
    OptimizerSpec: dyn Optimizer {
        /// Stochastic gradient descent, with momentum or without.
        sgd: Sgd(SgdSpec),
        /// Duchi, Hazan and Singer 2011.
        adagrad: Adagrad(AdagradSpec),
        /// Hinton 2012, lecture 6e.
        rmsprop: Rmsprop(RmspropSpec),
        /// Zeiler 2012.
        adadelta: Adadelta(AdadeltaSpec),
        /// Kingma and Ba 2015.
        adam: Adam(AdamSpec),
        /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
        adamw: Adamw(AdamwSpec),
        /// Adam with Nesterov momentum (Dozat 2016).
        nadam: Nadam(NadamSpec),
        /// The sign of an interpolated momentum (Chen et al. 2023).
        lion: Lion(LionSpec),
    }
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self::Adam(AdamSpec::default())
    }
}

impl OptimizerSpec {
    /// The rate from which a schedule begins.
    pub fn learning_rate(&self) -> f64 {
        self.fields().learning_rate()
    }

    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        let path = format!("{path}.{}", self.name());
        let rate = self.learning_rate();
        found.range(&path, "learning_rate", rate, Range::Positive);
        self.fields().check(&path, found);
    }
}

/// The betas and the epsilon of Adam and what comes of it.
fn check_moments(path: &str, (beta1, beta2): (f64, f64), epsilon: f64, found: &mut Findings) {
    found.range(path, "beta1", beta1, Range::Share);
    found.range(path, "beta2", beta2, Range::Share);
    found.range(path, "epsilon", epsilon, Range::Positive);
}

/// Keras's default of every optimizer but SGD, which has to be told one.
fn default_learning_rate() -> f64 {
    1e-3
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

/// Keras's.
fn default_epsilon() -> f64 {
    1e-7
}
