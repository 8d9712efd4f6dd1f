//! Losses, their gradients with respect to the network's output, and the metrics of a shard.

use rayon::prelude::*;
use trainyard_common::network::{Findings, Graph, Loss};

use crate::error::ModelError;
use crate::losses::{Kernel, Target, kernel, mean};
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
    /// Number of classes, where targets are class numbers.
    classes: usize,
}

#[derive(Clone, Copy, Default)]
struct Row {
    loss: f64,
    correct: bool,
    abs_err: f64,
    sq_err: f64,
}

impl Head {
    /// `outputs`: the number of classes, or the width of the targets.
    pub(crate) fn new(loss: &Loss, graph: &Graph, outputs: usize) -> Result<Self, ModelError> {
        let shape = &graph.output.shape[..];
        let mut numbers = Findings::default();
        loss.check("training.loss", &mut numbers);
        if let Some((field, message)) = numbers.into_inner().into_iter().next() {
            return Err(ModelError::Loss { field, message });
        }
        let mismatch = |expected: String| {
            let row = &graph.rows[graph.last_row];
            ModelError::Output {
                layer: row.layer.clone(),
                name: row.name,
                given: shape.to_vec(),
                loss: loss.name(),
                expected,
            }
        };
        let binary = matches!(loss, Loss::BinaryCrossEntropy(_)) && outputs == 2;
        if shape != [outputs] && !(binary && shape == [1]) {
            let or = if binary { " or [1]" } else { "" };
            return Err(mismatch(format!("[{outputs}]{or}")));
        }
        let folded = loss.folds(graph.trailing());
        if folded && graph.masks_output() {
            return Err(mismatch(
                "probabilities as they are: a dropout after a softmax or sigmoid would set some of them to 0; put it \
                 before the last dense layer"
                    .to_owned(),
            ));
        }
        Ok(Self {
            loss: loss.clone(),
            kernel: kernel(loss),
            folded,
            width: shape[0],
            // One output tells two classes apart, but for a softmax.
            classes: match loss {
                Loss::CrossEntropy(_) => outputs,
                _ => outputs.max(2),
            },
        })
    }

    pub(crate) fn folds_trailing(&self) -> bool {
        self.folded
    }

    /// Number of samples of these targets, once each target was checked.
    pub(crate) fn samples(&self, targets: Targets<'_>) -> Result<usize, ModelError> {
        match targets {
            Targets::Classes(labels) => {
                for (sample, &label) in labels.iter().enumerate() {
                    if label as usize >= self.classes {
                        return Err(ModelError::Label {
                            label,
                            sample,
                            classes: self.classes,
                        });
                    }
                }
                Ok(labels.len())
            }
            Targets::Values(_) if matches!(self.loss, Loss::CrossEntropy(_)) => {
                Err(ModelError::Targets {
                    loss: self.loss.name(),
                    expected: "class numbers",
                    given: "values",
                })
            }
            Targets::Values(values) => {
                let samples = values.len() / self.width;
                crate::check_length("targets", values.len(), samples * self.width)?;
                let probability = matches!(self.loss, Loss::BinaryCrossEntropy(_));
                let outside = |value: &f32| probability && !(0.0..=1.0).contains(value);
                match values.iter().position(outside) {
                    Some(at) => Err(ModelError::Target {
                        loss: self.loss.name(),
                        value: values[at],
                        sample: at / self.width,
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
                values
                    .chunks_exact_mut(self.width)
                    .enumerate()
                    .map(move |(i, row)| {
                        self.row(
                            target(targets, task * per_task + i, self.width),
                            row,
                            gradient,
                        )
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

    fn row(&self, target: Target<'_>, values: &mut [f32], gradient: bool) -> Row {
        let loss = self.kernel.value(values, target);
        self.kernel.finish(values);
        let row = Row {
            loss,
            correct: is_correct(values, target),
            abs_err: mean(values, target, |y, t| f64::from(y - t).abs()),
            sq_err: mean(values, target, |y, t| f64::from(y - t).powi(2)),
        };
        if gradient {
            self.kernel.differentiate(values, target);
        }
        row
    }
}

fn target(targets: Targets<'_>, sample: usize, width: usize) -> Target<'_> {
    match targets {
        Targets::Classes(labels) if width == 1 => Target::Number(labels[sample] as f32),
        Targets::Classes(labels) => Target::OneHot(labels[sample] as usize),
        Targets::Values(values) => Target::Values(&values[sample * width..(sample + 1) * width]),
    }
}

/// Largest prediction at the class; for one output, on the target's side of one half.
fn is_correct(predictions: &[f32], target: Target<'_>) -> bool {
    match (predictions, target) {
        ([prediction], target) => (*prediction > 0.5) == (target.at(0) > 0.5),
        (_, Target::OneHot(class)) => largest(predictions) == class,
        (_, Target::Values(values)) => largest(predictions) == largest(values),
        (_, Target::Number(_)) => false,
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
