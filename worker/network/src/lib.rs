//! The network: layers, losses and their gradients, in f32 on the CPU.
//!
//! It is given one virtual shard at a time and writes the gradient of the sum of its samples' losses
//! into one flat buffer. It knows nothing of optimizers, epochs, ranks or files. Results do not
//! depend on the number of threads of the current rayon pool: work is cut into pieces that depend on
//! shapes alone, and every sum over pieces is taken in their order.

mod activation;
mod conv;
mod dense;
#[cfg(target_arch = "x86_64")]
mod direct;
mod dropout;
mod error;
mod gemm;
mod graph;
mod init;
mod loss;
mod norm;
mod pass;
mod pool;
#[cfg(target_arch = "x86_64")]
mod shifted;
mod simd;

use std::sync::Mutex;

use candle_core::{Device, Tensor, Var};
use trainyard_common::rng::Key;
use trainyard_common::spec;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::training::Loss;

pub use error::ModelError;

use graph::{Node, Op};
use loss::Head;
use pass::Workspace;

/// A tensor of f32 values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// A trainable tensor: f32, contiguous, on the network's device.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// `<layer index>.<layer>.<role>`: `0.conv2d.kernel` of shape
    /// `[filters, channels, height, width]`, `3.dense.kernel` `[inputs, units]`, `3.dense.bias`
    /// `[units]`, `1.batch_norm.gamma` `[channels]`.
    pub name: String,
    pub var: Var,
}

/// What the samples of a shard should give.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// One class number a sample. A loss over values sees them one-hot (or, with one output, as the
    /// number itself).
    Classes(&'a [u32]),
    /// [samples, outputs], row-major.
    Values(&'a [f32]),
}

/// Sums over the samples of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShardOutcome {
    /// Sum of the samples' losses (each the mean over the outputs where the loss is over values).
    pub loss_sum: f64,
    /// Samples whose prediction is at the class.
    pub correct: u64,
    /// Sum over samples of the mean absolute difference of prediction and target.
    pub abs_err_sum: f64,
    /// Sum over samples of the mean squared difference.
    pub sq_err_sum: f64,
    pub samples: usize,
}

/// A network with its parameters, its running statistics and its buffers.
#[derive(Debug)]
pub struct Network {
    nodes: Vec<Node>,
    head: Head,
    parameters: Vec<Parameter>,
    /// Start of each parameter in the flat buffers, and their length at the end.
    offsets: Vec<usize>,
    /// Batch normalization: per layer the moving means, then the moving variances.
    running: Vec<f32>,
    sample_len: usize,
    outputs: usize,
    /// Buffers of passes that are not running now.
    idle: Mutex<Vec<Workspace>>,
}

/// The tensor device of a spec's device, or why this program cannot use it.
pub fn open_device(device: spec::Device) -> Result<Device, ModelError> {
    match device {
        spec::Device::Cpu => Ok(Device::Cpu),
        #[cfg(feature = "cuda")]
        spec::Device::Cuda => Ok(Device::new_cuda(0)?),
        #[cfg(not(feature = "cuda"))]
        spec::Device::Cuda => Err(ModelError::NoCuda),
    }
}

/// Whether there is memory for training so many parameters: it is asked for once, since those who take it
/// later end the process where there is none.
fn fits(graph: &graph::Graph, memory: u64) -> Result<(), ModelError> {
    /// Each parameter, its gradient in a virtual shard and in the sum, and its moment. Adam has two, and a
    /// snapshot is a copy: this is the least.
    const COPIES: u64 = 4;
    let values = |parameter: &graph::ParameterSpec| {
        let sizes = parameter.shape.iter().map(|&size| size as u64);
        sizes.fold(1, u64::saturating_mul)
    };
    let counts = graph.parameters.iter().map(values);
    let parameters = counts.fold(0, u64::saturating_add);
    let bytes = parameters.saturating_mul(COPIES * size_of::<f32>() as u64);
    let there =
        usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    if there && bytes <= memory {
        return Ok(());
    }
    Err(ModelError::Memory { parameters, bytes })
}

impl Network {
    /// Builds a network for samples of `sample_shape`: `[features]` or `[channels, height, width]`.
    ///
    /// `outputs` is the number of classes or the width of the targets; the last layer must put out
    /// `[outputs]` (with binary cross-entropy and two classes, `[1]` too). Parameters are drawn
    /// from `key`, each by its name. `memory`: the most bytes that this process can have.
    pub fn build(
        spec: &ModelSpec,
        sample_shape: &[usize],
        loss: &Loss,
        outputs: usize,
        key: Key,
        device: &Device,
        memory: u64,
    ) -> Result<Self, ModelError> {
        let graph = graph::compile(spec, sample_shape, loss, outputs)?;
        if !device.is_cpu()
            && let Some(node) = graph.nodes.first()
        {
            return Err(ModelError::Device {
                index: node.layer,
                layer: node.op.name(),
                device: if device.is_cuda() { "cuda" } else { "metal" },
            });
        }
        fits(&graph, memory)?;
        let mut parameters = Vec::with_capacity(graph.parameters.len());
        let mut offsets = vec![0];
        for wanted in graph.parameters {
            let data = wanted.initial(key);
            offsets.push(offsets[offsets.len() - 1] + data.len());
            let var = Var::from_vec(data, wanted.shape, device)?;
            parameters.push(Parameter {
                name: wanted.name,
                var,
            });
        }
        let mut network = Self {
            nodes: graph.nodes,
            head: graph.head,
            parameters,
            offsets,
            running: vec![0.0; graph.statistics],
            sample_len: sample_shape.iter().product(),
            outputs: graph.outputs,
            idle: Mutex::new(Vec::new()),
        };
        network.reset_running_statistics();
        Ok(network)
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Values of one sample.
    pub fn sample_len(&self) -> usize {
        self.sample_len
    }

    /// Width of the last layer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Length of the flat gradient buffer: all parameters' elements.
    pub fn gradient_len(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// Length of the flat statistics buffer: two values a channel of batch normalization.
    pub fn statistics_len(&self) -> usize {
        self.running.len()
    }

    /// Copies all parameters, in order, into a buffer of `gradient_len` values.
    pub fn read_parameters(&self, flat: &mut [f32]) -> Result<(), ModelError> {
        check_length("parameter buffer", flat.len(), self.gradient_len())?;
        self.with_parameters(|slices| {
            for (slice, offset) in slices.iter().zip(&self.offsets) {
                flat[*offset..offset + slice.len()].copy_from_slice(slice);
            }
            Ok(())
        })
    }

    /// Sets all parameters, in order, from a buffer of `gradient_len` values.
    pub fn write_parameters(&self, flat: &[f32]) -> Result<(), ModelError> {
        check_length("parameter buffer", flat.len(), self.gradient_len())?;
        self.update_parameters(|offset, slice| {
            slice.copy_from_slice(&flat[offset..offset + slice.len()]);
        })
    }

    /// Hands each parameter's own storage to `update`, with its offset in the flat buffers: the
    /// optimizer's pass, without a copy.
    pub fn update_parameters(
        &self,
        mut update: impl FnMut(usize, &mut [f32]),
    ) -> Result<(), ModelError> {
        for (parameter, &offset) in self.parameters.iter().zip(&self.offsets) {
            pass::edit(&parameter.var, |slice| update(offset, slice))?;
        }
        Ok(())
    }

    /// Forward, loss and backward of one virtual shard.
    ///
    /// `features` are [n, ...sample_shape], row-major. `gradients` (`gradient_len`) is overwritten
    /// with the gradient of the sum of the samples' losses, in parameter order; `statistics`
    /// (`statistics_len`) with sums that `apply_statistics` understands. Both only need to be added
    /// up over shards. `mask_key` is of (trial seed, step, virtual shard); the layer and the element
    /// within the shard are mixed in here. An empty shard gives zeros.
    pub fn shard_step(
        &self,
        features: &[f32],
        targets: Targets<'_>,
        mask_key: Key,
        gradients: &mut [f32],
        statistics: &mut [f32],
    ) -> Result<ShardOutcome, ModelError> {
        check_length("gradient buffer", gradients.len(), self.gradient_len())?;
        check_length("statistics buffer", statistics.len(), self.statistics_len())?;
        let samples = self.head.samples(targets)?;
        check_length("features", features.len(), samples * self.sample_len)?;
        if samples == 0 {
            gradients.fill(0.0);
            statistics.fill(0.0);
            return Ok(ShardOutcome::default());
        }
        let mut workspace = self.take_workspace();
        let outcome = self.with_parameters(|parameters| {
            let step = pass::Pass::new(self, parameters, features, samples);
            step.forward_training(mask_key, statistics, &mut workspace);
            let outcome = step.loss(targets, true, &mut workspace)?;
            step.backward(mask_key, gradients, &mut workspace);
            Ok(outcome)
        });
        self.keep_workspace(workspace);
        outcome
    }

    /// Predictions [n, outputs]: the softmax or sigmoid that belongs to the loss is applied.
    /// Running statistics, no dropout.
    pub fn predict(&self, features: &[f32], samples: usize) -> Result<Tensor, ModelError> {
        check_length("features", features.len(), samples * self.sample_len)?;
        let mut output = vec![0.0; samples * self.outputs];
        if samples > 0 {
            let mut workspace = self.take_workspace();
            self.with_parameters(|parameters| {
                let step = pass::Pass::new(self, parameters, features, samples);
                step.forward_inference(&mut workspace);
                output.copy_from_slice(step.output(&workspace));
                Ok(())
            })?;
            self.keep_workspace(workspace);
            self.head.finish(&mut output, self.outputs);
        }
        Ok(Tensor::from_vec(
            output,
            (samples, self.outputs),
            &Device::Cpu,
        )?)
    }

    /// Loss and metrics without gradients: running statistics, no dropout.
    pub fn evaluate(
        &self,
        features: &[f32],
        targets: Targets<'_>,
    ) -> Result<ShardOutcome, ModelError> {
        let samples = self.head.samples(targets)?;
        check_length("features", features.len(), samples * self.sample_len)?;
        if samples == 0 {
            return Ok(ShardOutcome::default());
        }
        let mut workspace = self.take_workspace();
        let outcome = self.with_parameters(|parameters| {
            let step = pass::Pass::new(self, parameters, features, samples);
            step.forward_inference(&mut workspace);
            step.loss(targets, false, &mut workspace)
        });
        self.keep_workspace(workspace);
        outcome
    }

    /// Moves the running statistics towards those of a global batch: `summed` is the sum of what
    /// `shard_step` wrote for its shards, `samples` the number of samples in all of them.
    ///
    /// As Keras: running <- momentum running + (1 - momentum) batch, with the batch's biased variance
    /// (divided by n, not n - 1). Mean and variance are those of the whole global batch, however it
    /// was cut into shards.
    pub fn apply_statistics(&mut self, summed: &[f32], samples: f64) {
        if samples <= 0.0 || summed.len() != self.running.len() {
            return;
        }
        for node in &self.nodes {
            if let Op::BatchNorm(norm) = &node.op {
                norm.apply(summed, samples, &mut self.running);
            }
        }
    }

    /// Running statistics by name, for a checkpoint.
    pub fn running_statistics(&self) -> Vec<NamedTensor> {
        self.running_ranges()
            .map(|(name, range)| NamedTensor {
                name,
                shape: vec![range.len()],
                data: self.running[range].to_vec(),
            })
            .collect()
    }

    /// Sets all running statistics; each must be there, by its name and with its shape.
    pub fn set_running_statistics(&mut self, tensors: &[NamedTensor]) -> Result<(), ModelError> {
        let ranges: Vec<_> = self.running_ranges().collect();
        for (name, range) in ranges {
            let found = tensors
                .iter()
                .find(|tensor| tensor.name == name)
                .ok_or_else(|| ModelError::Statistic {
                    name: name.clone(),
                    message: "missing".to_owned(),
                })?;
            if found.shape != [range.len()] || found.data.len() != range.len() {
                return Err(ModelError::Statistic {
                    name,
                    message: format!("shape {:?}, expected [{}]", found.shape, range.len()),
                });
            }
            self.running[range].copy_from_slice(&found.data);
        }
        Ok(())
    }

    /// (name, range in `running`) of each running statistic.
    fn running_ranges(&self) -> impl Iterator<Item = (String, std::ops::Range<usize>)> + '_ {
        self.nodes.iter().flat_map(|node| match &node.op {
            Op::BatchNorm(norm) => {
                let (start, middle) = (norm.statistics, norm.statistics + norm.channels);
                let end = middle + norm.channels;
                let name = format!("{}.batch_norm.moving", node.layer);
                vec![
                    (format!("{name}_mean"), start..middle),
                    (format!("{name}_variance"), middle..end),
                ]
            }
            _ => Vec::new(),
        })
    }

    /// Mean 0 and variance 1, as at the start.
    fn reset_running_statistics(&mut self) {
        for node in &self.nodes {
            if let Op::BatchNorm(norm) = &node.op {
                let middle = norm.statistics + norm.channels;
                self.running[middle..middle + norm.channels].fill(1.0);
            }
        }
    }

    /// Runs `work` with all parameters' values, in order.
    fn with_parameters<R>(
        &self,
        work: impl FnOnce(&[&[f32]]) -> Result<R, ModelError>,
    ) -> Result<R, ModelError> {
        let guards: Vec<_> = self
            .parameters
            .iter()
            .map(|parameter| parameter.var.storage_and_layout())
            .collect();
        let mut slices = Vec::with_capacity(guards.len());
        for (storage, layout) in &guards {
            slices.push(pass::cpu_slice(storage, layout)?);
        }
        work(&slices)
    }

    fn take_workspace(&self) -> Workspace {
        self.idle
            .lock()
            .ok()
            .and_then(|mut idle| idle.pop())
            .unwrap_or_default()
    }

    fn keep_workspace(&self, workspace: Workspace) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(workspace);
        }
    }
}

fn check_length(what: &'static str, given: usize, expected: usize) -> Result<(), ModelError> {
    if given == expected {
        Ok(())
    } else {
        Err(ModelError::Length {
            what,
            given,
            expected,
        })
    }
}
