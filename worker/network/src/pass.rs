//! One forward and backward pass over a shard, through buffers that are used again.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Var};
use trainyard_common::rng::Key;

use super::error::ModelError;
use super::graph::{Node, Op};
use super::{Network, ShardOutcome, Targets};

/// Buffers of a pass; they grow to the largest shard seen and stay.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Buffer i + 1 of the plan (0 are the features).
    buffers: Vec<Vec<f32>>,
    /// Per node: places picked by max pooling.
    picks: Vec<Vec<u32>>,
    /// Per node: the moments of batch normalization.
    moments: Vec<Vec<f32>>,
    /// Gradient of the buffer at hand, and of the one before it.
    gradient: Vec<f32>,
    input_gradient: Vec<f32>,
    /// Sums of a convolution's chunks.
    partials: Vec<f32>,
}

pub(crate) struct Pass<'a> {
    network: &'a Network,
    parameters: &'a [&'a [f32]],
    features: &'a [f32],
    samples: usize,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        network: &'a Network,
        parameters: &'a [&'a [f32]],
        features: &'a [f32],
        samples: usize,
    ) -> Self {
        Self {
            network,
            parameters,
            features,
            samples,
        }
    }

    pub(crate) fn forward_training(
        &self,
        mask_key: Key,
        statistics: &mut [f32],
        workspace: &mut Workspace,
    ) {
        self.forward(workspace, |node, input, output, moments| match &node.op {
            Op::Dropout(dropout) => dropout.forward(layer_key(mask_key, node), input, output),
            Op::BatchNorm(norm) => {
                moments.resize(3 * norm.channels, 0.0);
                let running = &self.network.running;
                norm.forward_training(self.parameters, running, input, output, moments, statistics);
            }
            _ => {}
        });
    }

    pub(crate) fn forward_inference(&self, workspace: &mut Workspace) {
        self.forward(workspace, |node, input, output, _| match &node.op {
            Op::Dropout(_) => output.copy_from_slice(input),
            Op::BatchNorm(norm) => {
                norm.forward_inference(self.parameters, &self.network.running, input, output);
            }
            _ => {}
        });
    }

    /// Runs all nodes; `by_mode` those that differ between training and inference.
    fn forward(
        &self,
        workspace: &mut Workspace,
        mut by_mode: impl FnMut(&Node, &[f32], &mut [f32], &mut Vec<f32>),
    ) {
        let nodes = &self.network.nodes;
        let Workspace {
            buffers,
            picks,
            moments,
            ..
        } = workspace;
        buffers.resize_with(nodes.last().map_or(0, |node| node.output), Vec::new);
        picks.resize_with(nodes.len(), Vec::new);
        moments.resize_with(nodes.len(), Vec::new);
        for ((node, picks), moments) in nodes.iter().zip(picks).zip(moments) {
            if node.input == node.output {
                if let Op::Activation(activation) = &node.op {
                    activation.forward(&mut buffers[node.output - 1]);
                }
                continue;
            }
            let (before, after) = buffers.split_at_mut(node.output - 1);
            let input = before.last().map_or(self.features, Vec::as_slice);
            let output = &mut after[0];
            output.resize(self.samples * node.output_len, 0.0);
            match &node.op {
                Op::Dense(dense) => dense.forward(self.parameters, input, output),
                Op::Conv(conv) => conv.forward(self.parameters, input, output),
                Op::MaxPool(pool) => {
                    picks.resize(output.len(), 0);
                    pool.forward_max(input, output, picks);
                }
                Op::AvgPool(pool) => pool.forward_average(input, output),
                Op::Activation(activation) => {
                    output.copy_from_slice(input);
                    activation.forward(output);
                }
                Op::Dropout(_) | Op::BatchNorm(_) => by_mode(node, input, output, moments),
            }
        }
    }

    /// What the last node put out, [n, outputs].
    pub(crate) fn output<'b>(&'b self, workspace: &'b Workspace) -> &'b [f32] {
        self.buffer(self.output_index(), workspace)
    }

    fn output_index(&self) -> usize {
        self.network.nodes.last().map_or(0, |node| node.output)
    }

    fn buffer<'b>(&'b self, index: usize, workspace: &'b Workspace) -> &'b [f32] {
        match index {
            0 => self.features,
            index => &workspace.buffers[index - 1],
        }
    }

    /// The shard's sums; with `gradient`, the gradient of the output is left in the workspace.
    pub(crate) fn loss(
        &self,
        targets: Targets<'_>,
        gradient: bool,
        workspace: &mut Workspace,
    ) -> Result<ShardOutcome, ModelError> {
        let mut values = std::mem::take(&mut workspace.gradient);
        values.clear();
        values.extend_from_slice(self.output(workspace));
        let expected = self.samples * self.network.outputs;
        super::check_length("network output", values.len(), expected)?;
        let outcome = self.network.head.evaluate(targets, &mut values, gradient);
        workspace.gradient = values;
        Ok(outcome)
    }

    /// From the gradient of the output, left by `loss`, to those of all parameters.
    pub(crate) fn backward(&self, mask_key: Key, gradients: &mut [f32], workspace: &mut Workspace) {
        let nodes = &self.network.nodes;
        let Some(first) = nodes
            .iter()
            .position(|node| node.op.first_parameter().is_some())
        else {
            return;
        };
        let mut gradient = std::mem::take(&mut workspace.gradient);
        let mut input_gradient = std::mem::take(&mut workspace.input_gradient);
        for (index, node) in nodes.iter().enumerate().skip(first).rev() {
            // Nothing before the first layer with parameters needs a gradient.
            input_gradient.resize(self.samples * node.input_len, 0.0);
            let wanted = (index > first).then_some(input_gradient.as_mut_slice());
            let moved =
                self.backward_node(index, mask_key, &mut gradient, wanted, gradients, workspace);
            if moved {
                std::mem::swap(&mut gradient, &mut input_gradient);
            }
        }
        workspace.gradient = gradient;
        workspace.input_gradient = input_gradient;
    }

    /// Whether the gradient of the input is in `input_gradient`; otherwise it is in `gradient`.
    fn backward_node(
        &self,
        index: usize,
        mask_key: Key,
        gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
        gradients: &mut [f32],
        workspace: &mut Workspace,
    ) -> bool {
        let node = &self.network.nodes[index];
        let mut partials = std::mem::take(&mut workspace.partials);
        let input = self.buffer(node.input, workspace);
        let output = self.buffer(node.output, workspace);
        let own = self.parameter_range(&node.op);
        let own = &mut gradients[own];
        match &node.op {
            Op::Dense(dense) => {
                dense.backward(
                    self.parameters,
                    input,
                    output,
                    gradient,
                    input_gradient,
                    own,
                );
            }
            Op::Conv(conv) => {
                conv.backward(
                    self.parameters,
                    input,
                    output,
                    gradient,
                    input_gradient,
                    own,
                    &mut partials,
                );
            }
            Op::BatchNorm(norm) => {
                let moments = &workspace.moments[index];
                norm.backward(
                    self.parameters,
                    input,
                    moments,
                    gradient,
                    input_gradient,
                    own,
                );
            }
            Op::MaxPool(pool) => {
                if let Some(input_gradient) = input_gradient {
                    pool.backward_max(&workspace.picks[index], gradient, input_gradient);
                }
            }
            Op::AvgPool(pool) => {
                if let Some(input_gradient) = input_gradient {
                    pool.backward_average(gradient, input_gradient);
                }
            }
            Op::Dropout(dropout) => dropout.backward(layer_key(mask_key, node), gradient),
            Op::Activation(activation) => {
                let from_output = activation.function.gradient_from_output();
                activation.backward(gradient, if from_output { output } else { input });
            }
        }
        workspace.partials = partials;
        !matches!(node.op, Op::Dropout(_) | Op::Activation(_))
    }

    /// The part of the flat gradient that belongs to a node: its parameters lie side by side.
    fn parameter_range(&self, op: &Op) -> std::ops::Range<usize> {
        let Some(first) = op.first_parameter() else {
            return 0..0;
        };
        let offsets = &self.network.offsets;
        offsets[first]..offsets[first + op.parameter_count()]
    }
}

fn layer_key(mask_key: Key, node: &Node) -> Key {
    mask_key.with(node.layer as u64)
}

/// The values of a contiguous f32 tensor on the CPU.
pub(crate) fn cpu_slice<'a>(
    storage: &'a Storage,
    layout: &Layout,
) -> Result<&'a [f32], ModelError> {
    let Storage::Cpu(storage) = storage else {
        return Err(candle_core::Error::Msg("parameter is not on the cpu".to_owned()).into());
    };
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("parameter is not contiguous".to_owned()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Edits a parameter's storage in place.
pub(crate) fn edit(var: &Var, edit: impl FnMut(&mut [f32])) -> Result<(), ModelError> {
    Ok(var.inplace_op1(&Edit(RefCell::new(edit)))?)
}

struct Edit<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "parameter update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("parameter is not f32");
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("parameter is not contiguous");
        };
        (self.0.borrow_mut())(&mut values[start..end]);
        Ok(())
    }
}
