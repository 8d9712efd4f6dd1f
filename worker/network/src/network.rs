//! A network that is trained: its parameters, what it computes of a shard, its running statistics.

use std::sync::Mutex;

use candle_core::{Device, Tensor, Var};
use trainyard_common::network::{self, Graph, Loss, ModelSpec, Op, Penalty, Statistic, TargetKind};
use trainyard_common::rng::Key;

use crate::error::ModelError;
use crate::features::Features;
use crate::head::Head;
use crate::ops::{self, Kernel};
use crate::parameters::{self, Parameter};
use crate::program::Program;
use crate::run::{Machine, Pass, Workspace};
use crate::{NamedTensor, ShardOutcome, Targets, check_length, init};

/// A network with its parameters, its running statistics and its buffers.
#[derive(Debug)]
pub struct Network {
    machine: Machine,
    features: Features,
    parameters: Vec<Parameter>,
    /// What parameters cost, by their position.
    penalties: Vec<(usize, Penalty)>,
    /// Running statistics, in their order.
    running: Vec<f32>,
    training: Pool,
    inference: Pool,
}

/// Whether there is memory for training so many parameters: it is asked for once, since those who take it
/// later end the process where there is none.
fn fits(graph: &Graph, memory: u64) -> Result<(), ModelError> {
    /// Each parameter, its gradient in a virtual shard and in the sum, and its moment. Adam has two, and a
    /// snapshot is a copy: this is the least.
    const COPIES: u64 = 4;
    let values = |parameter: &network::Parameter| {
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
    /// Builds a network for samples of `sample_shape`: `[features]`, `[steps, features]` or
    /// `[channels, height, width]`.
    ///
    /// The last layer must put out what the loss needs for these targets. Parameters are drawn from `key`, each by its name. `memory`: the most bytes that this process can have.
    pub fn build(
        spec: &ModelSpec,
        sample_shape: &[usize],
        loss: &Loss,
        targets: TargetKind,
        key: Key,
        device: &Device,
        memory: u64,
    ) -> Result<Self, ModelError> {
        let graph = spec.graph(sample_shape)?;
        let head = Head::new(loss, &graph, targets)?;
        let graph = match head.folds_trailing() {
            true => graph.without_trailing(),
            false => graph,
        };
        if !device.is_cpu()
            && let Some(node) = graph.nodes.first()
        {
            let row = &graph.rows[node.row];
            return Err(ModelError::Device {
                layer: row.layer.clone(),
                name: row.name,
                device: if device.is_cuda() { "cuda" } else { "metal" },
            });
        }
        fits(&graph, memory)?;
        let mut parameters = Vec::with_capacity(graph.parameters.len());
        let mut offsets = vec![0];
        for wanted in &graph.parameters {
            let data = init::initial(wanted, key);
            offsets.push(offsets[offsets.len() - 1] + data.len());
            let var = Var::from_vec(data, wanted.shape.clone(), device)?;
            parameters.push(Parameter {
                name: wanted.name.clone(),
                var,
                trained: true,
            });
        }
        let mut running = vec![0.0; graph.statistics_len()];
        for statistic in &graph.statistics {
            running[statistic.range.clone()].fill(statistic.initial);
        }
        let trained = vec![true; parameters.len()];
        Ok(Self {
            training: Pool::of(Program::training(&graph, &trained)),
            inference: Pool::of(Program::inference(&graph)),
            penalties: graph
                .parameters
                .iter()
                .enumerate()
                .filter_map(|(at, parameter)| Some((at, parameter.penalty?)))
                .collect(),
            parameters,
            running,
            features: Features::of(&graph),
            machine: Machine {
                kernels: kernels(&graph),
                head,
                offsets,
                trained,
                graph,
            },
        })
    }

    /// Multiplies the losses and gradients of training by the weight of the sample's class, in their order; what is
    /// judged has no weights.
    ///
    /// # Errors
    /// `Length` unless there is one for each class.
    pub fn weigh_classes(&mut self, weights: Vec<f32>) -> Result<(), ModelError> {
        self.machine.head.weigh_classes(weights)
    }

    /// The same network, of which only some parameters are trained; `trained` has one for each, in their order. Others
    /// cost no gradient, and a batch normalization without any that is trained rests.
    #[must_use]
    pub fn trained_in_part(mut self, trained: &[bool]) -> Self {
        let machine = &mut self.machine;
        for node in &mut machine.graph.nodes {
            if let Op::BatchNorm(norm) = &mut node.op {
                norm.frozen = !trained[node.parameters.clone()].contains(&true);
            }
        }
        let mut start = 0;
        let own = self.parameters.iter_mut().zip(trained);
        for (at, (parameter, &trained)) in own.enumerate() {
            parameter.trained = trained;
            machine.offsets[at] = start;
            start += if trained {
                parameter.var.elem_count()
            } else {
                0
            };
        }
        machine.offsets[trained.len()] = start;
        machine.trained = trained.to_vec();
        machine.kernels = kernels(&machine.graph);
        self.training = Pool::of(Program::training(&machine.graph, trained));
        self
    }

    /// What it computes.
    pub fn graph(&self) -> &Graph {
        &self.machine.graph
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Values of one sample.
    pub fn sample_len(&self) -> usize {
        self.machine.graph.buffers[0]
    }

    /// Width of the last layer.
    pub fn outputs(&self) -> usize {
        self.machine.graph.output.len()
    }

    /// Elements of all parameters.
    pub fn parameters_len(&self) -> usize {
        let lengths = self
            .parameters
            .iter()
            .map(|parameter| parameter.var.elem_count());
        lengths.sum()
    }

    /// Those that are trained, in the order of the gradient.
    pub fn trained(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| parameter.trained)
    }

    /// Length of the flat gradient buffer: the elements of all parameters that are trained.
    pub fn gradient_len(&self) -> usize {
        self.machine.offsets[self.machine.offsets.len() - 1]
    }

    /// Length of the flat statistics buffer: two values a channel of batch normalization.
    pub fn statistics_len(&self) -> usize {
        self.running.len()
    }

    /// Bytes of the values and gradients that a step over so many samples of one virtual shard holds, and judging so
    /// many.
    pub fn pass_bytes(&self, samples: usize) -> (u64, u64) {
        let Graph { nodes, buffers, .. } = &self.machine.graph;
        let kept = nodes.iter().fold(0u64, |sum, node| {
            sum.saturating_add(node.op.keeps(buffers[node.output]) as u64)
        });
        let bytes = |program: &Program| {
            let values = (program.values() as u64).saturating_add(kept);
            let values = values.saturating_mul(samples as u64);
            values.saturating_mul(size_of::<f32>() as u64)
        };
        (
            bytes(&self.training.program),
            bytes(&self.inference.program),
        )
    }

    /// Copies all parameters, in order, into a buffer of `parameters_len` values.
    pub fn read_parameters(&self, flat: &mut [f32]) -> Result<(), ModelError> {
        check_length("parameter buffer", flat.len(), self.parameters_len())?;
        let mut rest = flat;
        self.visit_parameters(|values| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(values.len());
            own.copy_from_slice(values);
            rest = after;
        })
    }

    /// Shows the values of each parameter, in order.
    pub fn visit_parameters(&self, visit: impl FnMut(&[f32])) -> Result<(), ModelError> {
        self.with_parameters(|slices| {
            slices.iter().copied().for_each(visit);
            Ok(())
        })
    }

    /// Sets all parameters, in order, from a buffer of `parameters_len` values.
    pub fn write_parameters(&self, flat: &[f32]) -> Result<(), ModelError> {
        check_length("parameter buffer", flat.len(), self.parameters_len())?;
        let mut rest = flat;
        for parameter in &self.parameters {
            let (own, after) = rest.split_at(parameter.var.elem_count());
            parameters::edit(&parameter.var, |slice| slice.copy_from_slice(own))?;
            rest = after;
        }
        Ok(())
    }

    /// Hands the storage of each parameter that is trained to `update`, with its offset in the flat gradient: the
    /// optimizer's pass, without a copy.
    pub fn update_parameters(
        &self,
        mut update: impl FnMut(usize, &mut [f32]),
    ) -> Result<(), ModelError> {
        for (parameter, &offset) in self.parameters.iter().zip(&self.machine.offsets) {
            if !parameter.trained {
                continue;
            }
            parameters::edit(&parameter.var, |slice| update(offset, slice))?;
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
        let samples = self.machine.head.samples(targets)?;
        self.features.check(features, samples)?;
        if samples == 0 {
            gradients.fill(0.0);
            statistics.fill(0.0);
            return Ok(ShardOutcome::default());
        }
        self.pass(
            &self.training,
            features,
            samples,
            mask_key,
            |pass, workspace| {
                pass.statistics(workspace, statistics);
                let outcome = pass.loss(targets, true, workspace)?;
                pass.backward(gradients, workspace);
                Ok(outcome)
            },
        )
    }

    /// Adds to the summed gradient of so many samples that of what the parameters themselves cost, as if each sample
    /// had to pay it: its mean has it once. The samples' losses do not have it.
    pub fn add_penalties(&self, samples: f64, gradients: &mut [f32]) -> Result<(), ModelError> {
        check_length("gradient buffer", gradients.len(), self.gradient_len())?;
        if self.penalties.is_empty() {
            return Ok(());
        }
        self.with_parameters(|slices| {
            for (at, Penalty { l1, l2 }) in &self.penalties {
                let own = self.machine.offsets[*at]..self.machine.offsets[*at + 1];
                let (l1, l2) = ((samples * l1) as f32, (2.0 * samples * l2) as f32);
                for (gradient, &value) in gradients[own].iter_mut().zip(slices[*at]) {
                    // Of a value of 0 neither side is the right one; 0 is as PyTorch takes it.
                    let sign = f32::from(i8::from(value > 0.0) - i8::from(value < 0.0));
                    *gradient += l1 * sign + l2 * value;
                }
            }
            Ok(())
        })
    }

    /// Predictions [n, outputs]: the softmax or sigmoid that belongs to the loss is applied.
    /// Running statistics, no dropout.
    pub fn predict(&self, features: &[f32], samples: usize) -> Result<Tensor, ModelError> {
        self.features.check(features, samples)?;
        let mut output = vec![0.0; samples * self.outputs()];
        if samples > 0 {
            let (program, key) = (&self.inference, Key::new(0));
            self.pass(program, features, samples, key, |pass, workspace| {
                output.copy_from_slice(pass.output(workspace));
                Ok(())
            })?;
            self.machine.head.finish(&mut output, self.outputs());
        }
        Ok(Tensor::from_vec(
            output,
            (samples, self.outputs()),
            &Device::Cpu,
        )?)
    }

    /// Loss and metrics without gradients: running statistics, no dropout.
    pub fn evaluate(
        &self,
        features: &[f32],
        targets: Targets<'_>,
    ) -> Result<ShardOutcome, ModelError> {
        let samples = self.machine.head.samples(targets)?;
        self.features.check(features, samples)?;
        if samples == 0 {
            return Ok(ShardOutcome::default());
        }
        let (program, key) = (&self.inference, Key::new(0));
        self.pass(program, features, samples, key, |pass, workspace| {
            pass.loss(targets, false, workspace)
        })
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
        for (node, kernel) in self.machine.graph.nodes.iter().zip(&self.machine.kernels) {
            let own = node.statistics.clone();
            kernel.apply_statistics(&summed[own.clone()], samples, &mut self.running[own]);
        }
    }

    /// Running statistics by name, for a checkpoint.
    pub fn running_statistics(&self) -> Vec<NamedTensor> {
        let statistics = self.machine.graph.statistics.iter();
        statistics
            .map(|statistic| NamedTensor {
                name: statistic.name.clone(),
                shape: vec![statistic.range.len()],
                data: self.running[statistic.range.clone()].to_vec(),
            })
            .collect()
    }

    /// Sets all running statistics; each must be there, by its name and with its shape.
    ///
    /// # Errors
    /// `Statistic` for the first that is not.
    pub fn set_running_statistics(&mut self, tensors: &[NamedTensor]) -> Result<(), ModelError> {
        for Statistic { name, range, .. } in &self.machine.graph.statistics {
            let wrong = |message: String| ModelError::Statistic {
                name: name.clone(),
                message,
            };
            let found = tensors
                .iter()
                .find(|tensor| tensor.name == *name)
                .ok_or_else(|| wrong("missing".to_owned()))?;
            if found.shape != [range.len()] || found.data.len() != range.len() {
                let message = format!("shape {:?}, expected [{}]", found.shape, range.len());
                return Err(wrong(message));
            }
            self.running[range.clone()].copy_from_slice(&found.data);
        }
        Ok(())
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
            slices.push(parameters::cpu_slice(storage, layout)?);
        }
        work(&slices)
    }

    /// Runs the forward part of a program, and then `rest`, with buffers of their own.
    fn pass<R>(
        &self,
        pool: &Pool,
        features: &[f32],
        samples: usize,
        mask_key: Key,
        rest: impl FnOnce(&Pass<'_>, &mut Workspace) -> Result<R, ModelError>,
    ) -> Result<R, ModelError> {
        let mut workspace = pool.take();
        let result = self.with_parameters(|parameters| {
            let pass = Pass {
                machine: &self.machine,
                running: &self.running,
                program: &pool.program,
                parameters,
                features,
                samples,
                mask_key,
                training: std::ptr::eq(pool, &self.training),
            };
            pass.forward(&mut workspace);
            rest(&pass, &mut workspace)
        });
        pool.keep(workspace);
        result
    }
}

/// One for each node.
fn kernels(graph: &Graph) -> Vec<Box<dyn Kernel>> {
    let kernels = graph.nodes.iter().map(|node| {
        let lengths: Vec<usize> = node.inputs.iter().map(|&b| graph.buffers[b]).collect();
        ops::kernel(&node.op, &lengths)
    });
    kernels.collect()
}

/// A program, and buffers of passes that are not running now.
#[derive(Debug)]
struct Pool {
    program: Program,
    idle: Mutex<Vec<Workspace>>,
}

impl Pool {
    fn of(program: Program) -> Self {
        Self {
            program,
            idle: Mutex::default(),
        }
    }

    fn take(&self) -> Workspace {
        let idle = self.idle.lock();
        idle.ok()
            .and_then(|mut idle| idle.pop())
            .unwrap_or_default()
    }

    fn keep(&self, workspace: Workspace) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(workspace);
        }
    }
}
