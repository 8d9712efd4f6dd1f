//! Parameter updates as one fused pass over flat buffers: one file for each optimizer's rule, and their list.
//!
//! Each number is updated by itself, so that neither the split into blocks nor the number of threads
//! changes anything. The fields of an optimizer are in common (`spec/optimizers`).

mod adadelta;
mod adagrad;
mod adam;
mod adamw;
mod lion;
mod nadam;
mod rmsprop;
mod sgd;
#[cfg(test)]
mod tests;

use rayon::prelude::*;
use trainyard_common::spec::optimizers::OptimizerSpec;

use super::clipping::Gradient;

/// Numbers that one task updates: its four buffers fit a core's second-level cache.
const BLOCK: usize = 32 * 1024;

/// The list: the rule of each optimizer.
fn rule_of(spec: &OptimizerSpec) -> Box<dyn Rule> {
    match spec.clone() {
        OptimizerSpec::Sgd(spec) => Box::new(spec),
        OptimizerSpec::Adagrad(spec) => Box::new(spec),
        OptimizerSpec::Rmsprop(spec) => Box::new(spec),
        OptimizerSpec::Adadelta(spec) => Box::new(spec),
        OptimizerSpec::Adam(spec) => Box::new(spec),
        OptimizerSpec::Adamw(spec) => Box::new(spec),
        OptimizerSpec::Nadam(spec) => Box::new(nadam::NadamRule::from(spec)),
        OptimizerSpec::Lion(spec) => Box::new(spec),
    }
}

/// What an optimizer keeps, and how it updates.
trait Rule: std::fmt::Debug + Send {
    /// Its state, one number for each parameter: names, as checkpoints have them, and what stands there before
    /// the first step.
    fn slots(&self) -> Vec<(&'static str, f32)>;

    /// The update of step `t`, counted from 1, at a learning rate. Its numbers are computed in f64 and
    /// rounded once.
    fn step(&mut self, t: u64, learning_rate: f64) -> Box<dyn Step>;
}

/// The update of one step.
trait Step: Sync {
    /// Updates a block of parameters; `state` has as many buffers as the rule has slots, in their order.
    fn update(&self, gradient: Gradient, p: &mut [f32], g: &[f32], state: Vec<&mut [f32]>);
}

/// The buffers of a state, which has as many as the rule has slots.
fn buffers<const N: usize>(state: Vec<&mut [f32]>) -> [&mut [f32]; N] {
    match state.try_into() {
        Ok(buffers) => buffers,
        Err(state) => unreachable!("{} buffers for {N} slots", state.len()),
    }
}

/// An optimizer with its state for all parameters of a network.
#[derive(Debug)]
pub(crate) struct Optimizer {
    name: &'static str,
    rule: Box<dyn Rule>,
    /// Updates so far.
    steps: u64,
    slots: Vec<Slot>,
}

/// One number of state for each parameter.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// `m`, `v` (Adam's moments), `momentum` and the like.
    pub(crate) name: &'static str,
    /// What stands there before the first step.
    initial: f32,
    pub(crate) values: Vec<f32>,
}

impl Slot {
    /// As before the first step.
    pub(crate) fn fresh(&self) -> Vec<f32> {
        vec![self.initial; self.values.len()]
    }
}

impl Optimizer {
    /// For `len` parameters, before the first step.
    pub(crate) fn new(spec: &OptimizerSpec, len: usize) -> Self {
        let rule = rule_of(spec);
        let slots = rule.slots().into_iter().map(|(name, initial)| Slot {
            name,
            initial,
            values: vec![initial; len],
        });
        Self {
            name: spec.name(),
            steps: 0,
            slots: slots.collect(),
            rule,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
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

    /// Begins the next step at some learning rates; `gradient` says what becomes of summed gradients.
    pub(crate) fn begin(&mut self, learning_rates: &[f64], gradient: Gradient) -> Update<'_> {
        self.steps += 1;
        let rates = learning_rates.iter();
        Update {
            steps: rates
                .map(|rate| self.rule.step(self.steps, *rate))
                .collect(),
            gradient,
            slots: &mut self.slots,
        }
    }
}

/// One step under way.
pub(crate) struct Update<'a> {
    /// For each learning rate.
    steps: Vec<Box<dyn Step>>,
    gradient: Gradient,
    slots: &'a mut [Slot],
}

impl Update<'_> {
    /// Updates the parameters that begin at `offset` of the flat buffers, at the learning rate of that position;
    /// `gradients` are theirs.
    pub(crate) fn apply(
        &mut self,
        rate: usize,
        offset: usize,
        parameters: &mut [f32],
        gradients: &[f32],
    ) {
        let range = offset..offset + parameters.len();
        let blocks = parameters.len().div_ceil(BLOCK);
        let mut states: Vec<Vec<&mut [f32]>> = (0..blocks).map(|_| Vec::new()).collect();
        for slot in &mut *self.slots {
            let chunks = slot.values[range.clone()].chunks_mut(BLOCK);
            for (state, chunk) in states.iter_mut().zip(chunks) {
                state.push(chunk);
            }
        }
        let (step, gradient) = (&self.steps[rate], self.gradient);
        parameters
            .par_chunks_mut(BLOCK)
            .zip(gradients.par_chunks(BLOCK))
            .zip(states)
            .for_each(|((p, g), state)| step.update(gradient, p, g, state));
    }
}
