//! A moving average of the parameters over the steps, which judges instead of them.

use rayon::prelude::*;
use trainyard_common::spec::training::{EmaSpec, WeightAverageSpec};
use trainyard_network::Network;

use super::TrainError;

/// Numbers that one task updates.
const BLOCK: usize = 32 * 1024;

/// One number for each parameter that is trained.
#[derive(Debug)]
pub(crate) struct Average {
    spec: EmaSpec,
    values: Vec<f32>,
}

impl Average {
    /// Begins with a network's parameters.
    pub(crate) fn new(spec: &WeightAverageSpec, network: &Network) -> Result<Self, TrainError> {
        let WeightAverageSpec::Ema(spec) = spec.clone();
        let values = vec![0.0; network.gradient_len()];
        let mut average = Self { spec, values };
        average.begin(network)?;
        Ok(average)
    }

    /// Begins again with a network's parameters.
    pub(crate) fn begin(&mut self, network: &Network) -> Result<(), TrainError> {
        let values = &mut self.values;
        network.update_parameters(|offset, parameters| {
            values[offset..offset + parameters.len()].copy_from_slice(parameters);
        })?;
        Ok(())
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn set_values(&mut self, values: Vec<f32>) {
        self.values = values;
    }

    /// a <- a + (1 - decay) (p - a) after step `t`, counted from 1, for the parameters that begin at `offset`; as
    /// PyTorch's `AveragedModel` it begins with those after the first step.
    pub(crate) fn update(&mut self, t: u64, offset: usize, parameters: &[f32]) {
        let rest = (1.0 - self.decay(t)) as f32;
        let values = &mut self.values[offset..offset + parameters.len()];
        let blocks = values.par_chunks_mut(BLOCK);
        blocks
            .zip(parameters.par_chunks(BLOCK))
            .for_each(|(values, parameters)| {
                for (a, p) in values.iter_mut().zip(parameters) {
                    *a += rest * (p - *a);
                }
            });
        if t == 1 {
            // Exactly, and whatever stood there.
            values.copy_from_slice(parameters);
        }
    }

    fn decay(&self, t: u64) -> f64 {
        match self.spec.ramp_up {
            // As TensorFlow with `num_updates`.
            true => self.spec.decay.min((1.0 + t as f64) / (10.0 + t as f64)),
            false => self.spec.decay,
        }
    }

    /// Puts the average in the place of the parameters, or back.
    pub(crate) fn swap(&mut self, network: &Network) -> Result<(), TrainError> {
        let values = &mut self.values;
        network.update_parameters(|offset, parameters| {
            let end = offset + parameters.len();
            parameters.swap_with_slice(&mut values[offset..end]);
        })?;
        Ok(())
    }
}
