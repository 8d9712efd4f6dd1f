//! Losses, their gradients with respect to the network's output, and the metrics of a shard.

use rayon::prelude::*;
use trainyard_common::network::{Graph, Trailing};
use trainyard_common::spec::training::Loss;

use crate::error::ModelError;
use crate::ops::{sigmoid, softmax};
use crate::{ShardOutcome, Targets};

/// Values handled by one task, at least.
const BLOCK: usize = 1 << 12;

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// -sum(q log softmax(z)), q = (1 - smoothing) onehot + smoothing / classes.
    CrossEntropy {
        smoothing: f32,
    },
    /// mean(max(z, 0) - z t + log(1 + e^-|z|)).
    BinaryCrossEntropy,
    Mse,
    Mae,
    /// mean(d^2 / 2) for |d| <= delta, mean(delta (|d| - delta / 2)) beyond.
    Huber {
        delta: f32,
    },
}

/// The loss with the activation that it takes over from the end of the network.
#[derive(Debug)]
pub(crate) struct Head {
    kind: Kind,
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
        let (trailing, shape) = (graph.trailing(), &graph.output.shape[..]);
        let kind = match loss {
            Loss::CrossEntropy(spec) => Kind::CrossEntropy {
                smoothing: spec.label_smoothing as f32,
            },
            Loss::BinaryCrossEntropy(_) => Kind::BinaryCrossEntropy,
            Loss::Mse(_) => Kind::Mse,
            Loss::Mae(_) => Kind::Mae,
            Loss::Huber(spec) => Kind::Huber {
                delta: spec.delta as f32,
            },
        };
        let mismatch = |expected: String| {
            let row = &graph.rows[graph.last_row];
            ModelError::Output {
                layer: row.layer.clone(),
                name: row.name,
                given: shape.to_vec(),
                loss: kind.name(),
                expected,
            }
        };
        match kind {
            Kind::CrossEntropy { smoothing } if !(0.0..1.0).contains(&smoothing) => {
                return Err(mismatch(format!(
                    "label_smoothing in [0, 1), not {smoothing}"
                )));
            }
            Kind::Huber { delta } if !(delta > 0.0 && delta.is_finite()) => {
                return Err(mismatch(format!("delta above 0, not {delta}")));
            }
            _ => {}
        }
        let binary = matches!(kind, Kind::BinaryCrossEntropy) && outputs == 2;
        if shape != [outputs] && !(binary && shape == [1]) {
            let or = if binary { " or [1]" } else { "" };
            return Err(mismatch(format!("[{outputs}]{or}")));
        }
        let folded = matches!(
            (kind, trailing),
            (Kind::CrossEntropy { .. }, Trailing::Softmax)
                | (Kind::BinaryCrossEntropy, Trailing::Sigmoid)
        );
        if folded && graph.masks_output() {
            return Err(mismatch(
                "probabilities as they are: a dropout after a softmax or sigmoid would set some of them to 0; put it \
                 before the last dense layer"
                    .to_owned(),
            ));
        }
        Ok(Self {
            kind,
            folded,
            width: shape[0],
            // One output tells two classes apart, but for a softmax.
            classes: match kind {
                Kind::CrossEntropy { .. } => outputs,
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
            Targets::Values(_) if matches!(self.kind, Kind::CrossEntropy { .. }) => {
                Err(ModelError::Targets {
                    loss: self.kind.name(),
                    expected: "class numbers",
                    given: "values",
                })
            }
            Targets::Values(values) => {
                let samples = values.len() / self.width;
                crate::check_length("targets", values.len(), samples * self.width)?;
                let probability = matches!(self.kind, Kind::BinaryCrossEntropy);
                let outside = |value: &f32| probability && !(0.0..=1.0).contains(value);
                match values.iter().position(outside) {
                    Some(at) => Err(ModelError::Target {
                        loss: self.kind.name(),
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
        match self.kind {
            Kind::CrossEntropy { .. } => output.chunks_exact_mut(width).for_each(softmax),
            Kind::BinaryCrossEntropy => output.iter_mut().for_each(|z| *z = sigmoid(*z)),
            Kind::Mse | Kind::Mae | Kind::Huber { .. } => {}
        }
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
                            Target::of(targets, task * per_task + i, self.width),
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
        let loss = match self.kind {
            Kind::CrossEntropy { smoothing } => cross_entropy_loss(values, target, smoothing),
            Kind::BinaryCrossEntropy => mean(values, target, |z, t| {
                f64::from(z.max(0.0) - z * t) + f64::from(libm::log1pf(libm::expf(-z.abs())))
            }),
            Kind::Mse => mean(values, target, |y, t| f64::from(y - t).powi(2)),
            Kind::Mae => mean(values, target, |y, t| f64::from(y - t).abs()),
            Kind::Huber { delta } => mean(values, target, |y, t| {
                let (d, delta) = (f64::from(y - t).abs(), f64::from(delta));
                if d <= delta {
                    0.5 * d * d
                } else {
                    delta * (d - 0.5 * delta)
                }
            }),
        };
        self.finish(values, values.len());
        let row = Row {
            loss,
            correct: is_correct(values, target),
            abs_err: mean(values, target, |y, t| f64::from(y - t).abs()),
            sq_err: mean(values, target, |y, t| f64::from(y - t).powi(2)),
        };
        if gradient {
            self.differentiate(values, target);
        }
        row
    }

    /// From predictions to the gradient of the sample's loss by the outputs.
    fn differentiate(&self, values: &mut [f32], target: Target<'_>) {
        let width = values.len() as f32;
        for (j, value) in values.iter_mut().enumerate() {
            let d = *value - target.at(j);
            *value = match self.kind {
                Kind::CrossEntropy { smoothing } => {
                    *value - ((1.0 - smoothing) * target.at(j) + smoothing / width)
                }
                Kind::BinaryCrossEntropy => d / width,
                Kind::Mse => 2.0 * d / width,
                Kind::Mae => sign(d) / width,
                Kind::Huber { delta } => {
                    (if d.abs() <= delta { d } else { delta * sign(d) }) / width
                }
            };
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::BinaryCrossEntropy => "binary_cross_entropy",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Huber { .. } => "huber",
        }
    }
}

/// The target of one sample.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// A class among several outputs.
    OneHot(usize),
    /// A class number as the value of the single output.
    Number(f32),
    Values(&'a [f32]),
}

impl<'a> Target<'a> {
    fn of(targets: Targets<'a>, sample: usize, width: usize) -> Self {
        match targets {
            Targets::Classes(labels) if width == 1 => Self::Number(labels[sample] as f32),
            Targets::Classes(labels) => Self::OneHot(labels[sample] as usize),
            Targets::Values(values) => Self::Values(&values[sample * width..(sample + 1) * width]),
        }
    }

    fn at(&self, j: usize) -> f32 {
        match *self {
            Self::OneHot(class) => f32::from(u8::from(class == j)),
            Self::Number(value) => value,
            Self::Values(values) => values[j],
        }
    }
}

/// log(sum(e^z)) - (1 - smoothing) z[class] - smoothing mean(z), shifted by the maximum.
fn cross_entropy_loss(values: &[f32], target: Target<'_>, smoothing: f32) -> f64 {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = values.iter().map(|&z| libm::expf(z - max)).sum();
    let class = match target {
        Target::OneHot(class) => class,
        Target::Number(_) | Target::Values(_) => 0,
    };
    let smoothing = f64::from(smoothing);
    let mean = values.iter().map(|&z| f64::from(z - max)).sum::<f64>() / values.len() as f64;
    let spread = if smoothing > 0.0 {
        smoothing * mean
    } else {
        0.0
    };
    libm::log(f64::from(sum)) - (1.0 - smoothing) * f64::from(values[class] - max) - spread
}

fn mean(values: &[f32], target: Target<'_>, f: impl Fn(f32, f32) -> f64) -> f64 {
    let sum: f64 = values
        .iter()
        .enumerate()
        .map(|(j, &value)| f(value, target.at(j)))
        .sum();
    sum / values.len() as f64
}

fn sign(d: f32) -> f32 {
    if d > 0.0 {
        1.0
    } else if d < 0.0 {
        -1.0
    } else {
        d
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
