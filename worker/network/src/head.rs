//! Losses, their gradients with respect to the network's output, and the metrics of a shard.

use rayon::prelude::*;
use trainyard_common::network::{Findings, Graph, Loss, TargetKind};

use crate::error::ModelError;
use crate::losses::{Form, Kernel, Target, kernel, mean};
use crate::{ShardOutcome, Targets};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 12;

/// The loss with the activation that it takes over from the end of the network.
#[derive(Debug)]
pub(crate) struct Head {
    loss: Loss,
    kernel: Box<dyn Kernel>,
    folded: bool,
    width: usize,
    /// Numbers of a target, where targets are numbers.
    target_width: usize,
    /// Number of classes, where targets are class numbers.
    classes: Option<usize>,
    is_map: bool,
    /// Of the classes, in training; none: 1 each.
    weights: Vec<f32>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    loss: f64,
    correct: bool,
    abs_err: f64,
    sq_err: f64,
}

impl Head {
    pub(crate) fn new(loss: &Loss, graph: &Graph, targets: TargetKind) -> Result<Self, ModelError> {
        let mut numbers = Findings::default();
        loss.check("training.loss", &mut numbers);
        if let Some((field, message)) = numbers.into_inner().into_iter().next() {
            return Err(ModelError::Loss { field, message });
        }
        graph.check_output(loss, targets)?;
        let shape = &graph.output.shape[..];
        let width = graph.output.len();
        let target_width = match targets {
            TargetKind::Values(Some(target_width)) => target_width,
            _ => width,
        };
        let form = Form {
            channels: shape[0],
            is_map: target_width != width,
        };
        Ok(Self {
            loss: loss.clone(),
            kernel: kernel(loss, form),
            folded: loss.folds(graph.trailing()),
            width,
            target_width,
            classes: match targets {
                // One output tells two classes apart.
                TargetKind::Classes(classes) => Some(classes.unwrap_or(width).max(2)),
                TargetKind::Values(_) => None,
            },
            is_map: form.is_map,
            weights: Vec::new(),
        })
    }

    /// Multiplies the losses and gradients of training by the weight of the sample's class.
    pub(crate) fn weigh_classes(&mut self, weights: Vec<f32>) -> Result<(), ModelError> {
        crate::check_length("class weights", weights.len(), self.classes.unwrap_or(0))?;
        self.weights = weights;
        Ok(())
    }

    pub(crate) fn folds_trailing(&self) -> bool {
        self.folded
    }

    /// Number of samples of these targets, once each target was checked.
    pub(crate) fn samples(&self, targets: Targets<'_>) -> Result<usize, ModelError> {
        match targets {
            Targets::Classes(labels) => {
                let classes = self.classes.ok_or(ModelError::Targets {
                    loss: self.loss.name(),
                    expected: "values",
                    given: "class numbers",
                })?;
                let outside = |label: &u32| *label as usize >= classes;
                match labels.iter().position(outside) {
                    Some(sample) => Err(ModelError::Label {
                        label: labels[sample],
                        sample,
                        classes,
                    }),
                    None => Ok(labels.len()),
                }
            }
            Targets::Values(_) if !self.loss.takes().values() => Err(ModelError::Targets {
                loss: self.loss.name(),
                expected: "class numbers",
                given: "values",
            }),
            Targets::Values(values) => {
                let width = self.target_width;
                let samples = values.len() / width;
                crate::check_length("targets", values.len(), samples * width)?;
                match self.kernel.refused(values) {
                    Some(at) => Err(ModelError::Target {
                        loss: self.loss.name(),
                        value: values[at],
                        sample: at / width,
                        accepted: self.kernel.accepted(),
                    }),
                    None => Ok(samples),
                }
            }
        }
    }

    /// Turns outputs into predictions: the softmax or sigmoid that belongs to the loss.
    pub(crate) fn finish(&self, output: &mut [f32], width: usize) {
        let rows = output.chunks_exact_mut(width);
        rows.for_each(|row| self.kernel.finish(row));
    }

    /// Sums over the samples; `values` holds the outputs [n, width] and, with `gradient`, gets the
    /// gradient of the sum of losses in their place.
    pub(crate) fn evaluate(
        &self,
        targets: Targets<'_>,
        values: &mut [f32],
        gradient: bool,
    ) -> ShardOutcome {
        let per_task = (BLOCK / self.width).max(1);
        let rows: Vec<Row> = values
            .par_chunks_mut(per_task * self.width)
            .enumerate()
            .flat_map_iter(|(task, values)| {
                let mut outputs = Vec::new();
                let rows = values.chunks_exact_mut(self.width).enumerate();
                rows.map(move |(i, row)| {
                    let sample = task * per_task + i;
                    let loss = self.row(self.target(targets, sample), row, gradient, &mut outputs);
                    match (targets, gradient) {
                        (Targets::Classes(labels), true) => self.weigh(labels[sample], loss, row),
                        _ => loss,
                    }
                })
            })
            .collect();
        let mut outcome = ShardOutcome {
            samples: rows.len(),
            ..ShardOutcome::default()
        };
        for row in rows {
            outcome.loss_sum += row.loss;
            outcome.correct += u64::from(row.correct);
            outcome.abs_err_sum += row.abs_err;
            outcome.sq_err_sum += row.sq_err;
        }
        outcome
    }

    /// `outputs` is anybody's.
    fn row(
        &self,
        target: Target<'_>,
        values: &mut [f32],
        gradient: bool,
        outputs: &mut Vec<f32>,
    ) -> Row {
        let loss = self.kernel.value(values, target);
        if gradient {
            outputs.clear();
            outputs.extend_from_slice(values);
        }
        self.kernel.finish(values);
        let row = Row {
            loss,
            correct: is_correct(values, target, self.kernel.threshold()),
            abs_err: mean(values, target, |y, t| f64::from(y - t).abs()),
            sq_err: mean(values, target, |y, t| f64::from(y - t).powi(2)),
        };
        if gradient {
            self.kernel.differentiate(outputs, values, target);
        }
        row
    }

    /// A sample's loss and gradient, as often as its class counts.
    fn weigh(&self, label: u32, row: Row, gradient: &mut [f32]) -> Row {
        let Some(&weight) = self.weights.get(label as usize) else {
            return row;
        };
        gradient.iter_mut().for_each(|g| *g *= weight);
        Row {
            loss: row.loss * f64::from(weight),
            ..row
        }
    }

    fn target<'t>(&self, targets: Targets<'t>, sample: usize) -> Target<'t> {
        match targets {
            Targets::Classes(labels) if self.width == 1 => Target::Number(labels[sample] as f32),
            Targets::Classes(labels) => Target::OneHot(labels[sample] as usize),
            Targets::Values(values) => {
                let own = &values[sample * self.target_width..][..self.target_width];
                match self.is_map {
                    true => Target::Map(own),
                    false => Target::Values(own),
                }
            }
        }
    }
}

/// Largest prediction at the class; for one output, on the target's side of the threshold.
fn is_correct(predictions: &[f32], target: Target<'_>, threshold: f32) -> bool {
    match (predictions, target) {
        ([prediction], target) => (*prediction > threshold) == (target.at(0) > 0.5),
        (_, Target::OneHot(class)) => largest(predictions) == class,
        (_, Target::Values(values)) => largest(predictions) == largest(values),
        (_, Target::Number(_) | Target::Map(_)) => false,
    }
}

/// Place of the largest value, the first of equal ones.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (j, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = j;
        }
    }
    best
}
