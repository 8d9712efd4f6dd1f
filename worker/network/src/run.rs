//! Runs a program over a shard, through buffers that are used again.

use std::ops::Range;

use trainyard_common::network::Graph;
use trainyard_common::rng::Key;

use crate::error::ModelError;
use crate::head::Head;
use crate::ops::{At, Kept, Kernel, Known};
use crate::program::{Backward, Forward, Place, Program, Target};
use crate::{ShardOutcome, Targets};

/// Buffers of a pass; they grow to the largest shard seen and stay.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Those of the program.
    slots: Vec<Vec<f32>>,
    /// Per node.
    kept: Vec<Kept>,
}

/// What computes a network.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) graph: Graph,
    /// Per node.
    pub(crate) kernels: Vec<Box<dyn Kernel>>,
    pub(crate) head: Head,
    /// Start of each parameter in the flat gradient, and its length at the end. Those that are not trained take
    /// nothing there.
    pub(crate) offsets: Vec<usize>,
    pub(crate) trained: Vec<bool>,
}

/// A pass over so many samples.
pub(crate) struct Pass<'a> {
    pub(crate) machine: &'a Machine,
    /// Running statistics, in their order.
    pub(crate) running: &'a [f32],
    pub(crate) program: &'a Program,
    pub(crate) parameters: &'a [&'a [f32]],
    pub(crate) features: &'a [f32],
    pub(crate) samples: usize,
    pub(crate) mask_key: Key,
    pub(crate) training: bool,
}

impl Workspace {
    /// The first values of a slot, as many as `len` a sample.
    fn slot(&self, place: Place, len: usize) -> &[f32] {
        match place {
            Place::Slot(slot) => &self.slots[slot][..len],
            Place::Features | Place::Gone => &[],
        }
    }

    /// Takes a slot out, to be written; it must be put back.
    fn take(&mut self, slot: usize, len: usize) -> Vec<f32> {
        let mut values = std::mem::take(&mut self.slots[slot]);
        if values.len() < len {
            values.resize(len, 0.0);
        }
        values
    }
}

impl Pass<'_> {
    fn graph(&self) -> &Graph {
        &self.machine.graph
    }

    fn len(&self, buffer: usize) -> usize {
        self.samples * self.graph().buffers[buffer]
    }

    fn at<'b>(&'b self, node: usize) -> At<'b> {
        let own = &self.graph().nodes[node];
        At {
            parameters: &self.parameters[own.parameters.clone()],
            running: &self.running[own.statistics.clone()],
            mask_key: self.mask_key,
            draw: &own.draw,
            training: self.training,
        }
    }

    fn kernel(&self, node: usize) -> &dyn Kernel {
        &*self.machine.kernels[node]
    }

    /// All operations, in order.
    pub(crate) fn forward(&self, workspace: &mut Workspace) {
        workspace
            .slots
            .resize_with(self.program.slots.len(), Vec::new);
        workspace
            .kept
            .resize_with(self.graph().nodes.len(), Kept::default);
        for step in &self.program.forward {
            self.forward_step(step, workspace);
        }
    }

    fn forward_step(&self, step: &Forward, workspace: &mut Workspace) {
        let node = &self.graph().nodes[step.node];
        let len = self.len(node.output);
        let mut output = workspace.take(step.output, len);
        if step.in_place {
            let kernel = self.kernel(step.node);
            kernel.forward_in_place(&self.at(step.node), &mut output[..len]);
        } else {
            let mut kept = std::mem::take(&mut workspace.kept[step.node]);
            let inputs = self.read(&step.inputs, &node.inputs, workspace);
            self.kernel(step.node).forward(
                &self.at(step.node),
                &inputs,
                &mut output[..len],
                &mut kept,
            );
            workspace.kept[step.node] = kept;
        }
        workspace.slots[step.output] = output;
    }

    fn read<'b>(
        &'b self,
        places: &[Place],
        buffers: &[usize],
        workspace: &'b Workspace,
    ) -> Vec<&'b [f32]> {
        places
            .iter()
            .zip(buffers)
            .map(|(&place, &buffer)| self.values(place, buffer, workspace))
            .collect()
    }

    fn values<'b>(&'b self, place: Place, buffer: usize, workspace: &'b Workspace) -> &'b [f32] {
        match place {
            Place::Features => self.features,
            place => workspace.slot(place, self.len(buffer)),
        }
    }

    /// What the last layer put out, [n, outputs].
    pub(crate) fn output<'b>(&'b self, workspace: &'b Workspace) -> &'b [f32] {
        let place = self.program.output.unwrap_or(Place::Gone);
        self.values(place, self.graph().output.buffer, workspace)
    }

    /// In training: what moves the running statistics, in their order.
    pub(crate) fn statistics(&self, workspace: &Workspace, statistics: &mut [f32]) {
        for (node, kept) in self.graph().nodes.iter().zip(&workspace.kept) {
            statistics[node.statistics.clone()].copy_from_slice(&kept.statistics);
        }
    }

    /// The shard's sums; with `gradient`, the gradient of the output is left for the backward pass.
    pub(crate) fn loss(
        &self,
        targets: Targets<'_>,
        gradient: bool,
        workspace: &mut Workspace,
    ) -> Result<ShardOutcome, ModelError> {
        let len = self.len(self.graph().output.buffer);
        let mut values = workspace.take(self.program.loss, len);
        values[..len].copy_from_slice(self.output(workspace));
        let head = &self.machine.head;
        let outcome = head.evaluate(targets, &mut values[..len], gradient);
        workspace.slots[self.program.loss] = values;
        Ok(outcome)
    }

    /// From the gradient of the output, left by `loss`, to those of all parameters.
    pub(crate) fn backward(&self, gradients: &mut [f32], workspace: &mut Workspace) {
        for step in &self.program.backward {
            let parameters = self.graph().nodes[step.node].parameters.clone();
            if self.machine.trained[parameters]
                .iter()
                .all(|&trained| trained)
            {
                let own = self.own_range(step.node);
                self.backward_step(step, &mut gradients[own], workspace);
            } else {
                self.backward_in_parts(step, gradients, workspace);
            }
        }
    }

    /// Of a node of which not every parameter is trained: what belongs to the others is left.
    fn backward_in_parts(&self, step: &Backward, gradients: &mut [f32], workspace: &mut Workspace) {
        let parameters = self.graph().nodes[step.node].parameters.clone();
        let lengths = parameters.clone().map(|at| self.parameters[at].len());
        let mut whole = vec![0.0; lengths.sum()];
        self.backward_step(step, &mut whole, workspace);
        let mut rest = whole.as_slice();
        for at in parameters {
            let (own, after) = rest.split_at(self.parameters[at].len());
            rest = after;
            if self.machine.trained[at] {
                let start = self.machine.offsets[at];
                gradients[start..start + own.len()].copy_from_slice(own);
            }
        }
    }

    fn backward_step(&self, step: &Backward, own: &mut [f32], workspace: &mut Workspace) {
        let node = &self.graph().nodes[step.node];
        let len = self.len(node.output);
        let mut gradient = workspace.take(step.gradient, len);
        let mut kept = std::mem::take(&mut workspace.kept[step.node]);
        let mut taken: Vec<Option<Vec<f32>>> = step
            .targets
            .iter()
            .zip(&node.inputs)
            .map(|(target, &input)| match *target {
                Target::Fresh(slot) => Some(workspace.take(slot, self.len(input))),
                Target::Added { through, .. } if through != step.gradient => {
                    Some(workspace.take(through, self.len(input)))
                }
                _ => None,
            })
            .collect();
        {
            let mut targets: Vec<Option<&mut [f32]>> = taken
                .iter_mut()
                .zip(&node.inputs)
                .map(|(values, &input)| values.as_mut().map(|v| &mut v[..self.len(input)]))
                .collect();
            let inputs = self.read(&step.inputs, &node.inputs, workspace);
            let known = Known {
                inputs: &inputs,
                output: self.values(step.output, node.output, workspace),
            };
            self.kernel(step.node).backward(
                &self.at(step.node),
                &known,
                &mut gradient[..len],
                &mut targets,
                own,
                &mut kept,
            );
        }
        workspace.kept[step.node] = kept;
        workspace.slots[step.gradient] = gradient;
        for ((target, values), &input) in step.targets.iter().zip(taken).zip(&node.inputs) {
            match (*target, values) {
                (Target::Fresh(slot), Some(values)) => workspace.slots[slot] = values,
                (Target::Added { through, to }, values) => {
                    if let Some(values) = values {
                        workspace.slots[through] = values;
                    }
                    add(workspace, through, to, self.len(input));
                }
                _ => {}
            }
        }
    }

    /// The part of the flat gradient that belongs to a node: its parameters lie side by side.
    fn own_range(&self, node: usize) -> Range<usize> {
        let parameters = &self.graph().nodes[node].parameters;
        let offsets = &self.machine.offsets;
        offsets[parameters.start]..offsets[parameters.end]
    }
}

/// to += through.
fn add(workspace: &mut Workspace, through: usize, to: usize, len: usize) {
    let mut sum = std::mem::take(&mut workspace.slots[to]);
    crate::simd::add(&mut sum[..len], &workspace.slots[through][..len]);
    workspace.slots[to] = sum;
}
