//! A trainer whose network begins with the weights of a file.

use trainyard_common::network::{Graph, Op};

use super::TrainError;
use super::agreement::same_data;
use super::trainer::Trainer;
use crate::weights::{Wanted, Weights};

impl Trainer {
    /// Takes over what a file has for the network. Before the first step; every rank must call it.
    ///
    /// # Errors
    /// `Spec` for a file that does not fit; `MixedData` if ranks have different files; `Collective`.
    pub fn begin_with(&mut self, weights: &Weights) -> Result<(), TrainError> {
        same_data(&mut *self.group, weights.digest(), weights.url())?;
        let wrong = |message: String| TrainError::Spec {
            field: "model.weights",
            message: format!("{}: {message}", weights.url()),
        };
        let network = &self.network;
        let mut statistics = network.running_statistics();
        let parameters = network.graph().parameters.iter().enumerate();
        let mut wanted: Vec<Wanted<'_>> = parameters
            .map(|(at, parameter)| Wanted {
                name: &parameter.name,
                shape: &parameter.shape,
                transposed: is_dense_kernel(network.graph(), at),
                of_head: is_of_head(network.graph(), at),
            })
            .collect();
        let count = wanted.len();
        wanted.extend(statistics.iter().map(|statistic| Wanted {
            name: &statistic.name,
            shape: &statistic.shape,
            transposed: false,
            of_head: false,
        }));
        let mut found = weights.fit(&wanted).map_err(wrong)?;
        let moved = found.split_off(count);
        let mut flat = vec![0.0; network.parameters_len()];
        network.read_parameters(&mut flat)?;
        let mut rest = flat.as_mut_slice();
        for (parameter, values) in network.graph().parameters.iter().zip(found) {
            let (own, after) = rest.split_at_mut(parameter.len());
            if let Some(values) = values {
                own.copy_from_slice(&values);
            }
            rest = after;
        }
        for (statistic, values) in statistics.iter_mut().zip(moved) {
            if let Some(values) = values {
                statistic.data = values;
            }
        }
        self.network.write_parameters(&flat)?;
        self.network.set_running_statistics(&statistics)?;
        if let Some(average) = &mut self.average {
            average.begin(&self.network)?;
        }
        Ok(())
    }
}

fn is_dense_kernel(graph: &Graph, parameter: usize) -> bool {
    let mut nodes = graph.nodes.iter();
    let dense = |op: &Op| matches!(op, Op::Dense(_));
    nodes.any(|node| {
        node.parameters.start == parameter && !node.parameters.is_empty() && dense(&node.op)
    })
}

/// Whether it is of the last layer that has parameters.
fn is_of_head(graph: &Graph, parameter: usize) -> bool {
    let last = graph
        .nodes
        .iter()
        .rev()
        .find(|node| !node.parameters.is_empty());
    last.is_some_and(|node| node.parameters.contains(&parameter))
}

#[cfg(test)]
mod tests;
