//! Losses of one sample, and their gradients by the network's output: a file each, and a line in [`kernel`].

mod binary_cross_entropy;
mod binary_focal;
mod categorical_focal;
mod categorical_hinge;
mod channels;
mod cosine_similarity;
mod cross_entropy;
mod dice;
mod hinge;
mod huber;
mod jaccard;
mod kl_divergence;
mod log_cosh;
mod mae;
mod mape;
mod mse;
mod msle;
mod overlap;
mod poisson;
mod quantile;
mod squared_hinge;
mod tversky;

use std::fmt::Debug;

use trainyard_common::network::Loss;

/// The target of one sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A class among several outputs.
    OneHot(usize),
    /// A class number as the value of the single output.
    Number(f32),
    Values(&'a [f32]),
    /// A class for each position of outputs `[classes, positions]`.
    Map(&'a [f32]),
}

impl Target<'_> {
    /// What output `j` should be.
    pub(crate) fn at(&self, j: usize) -> f32 {
        match *self {
            Self::OneHot(class) => f32::from(u8::from(class == j)),
            Self::Number(value) => value,
            Self::Values(values) => values[j],
            Self::Map(classes) => {
                let class = classes[j % classes.len()];
                f32::from(u8::from(class as usize == j / classes.len()))
            }
        }
    }

    /// The class, for losses that are given nothing else.
    fn class(&self) -> usize {
        match *self {
            Self::OneHot(class) => class,
            Self::Number(value) => value as usize,
            Self::Values(_) | Self::Map(_) => unreachable!("targets of this loss are classes"),
        }
    }
}

/// How outputs and targets of a sample are arranged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Size of the outputs' first dimension.
    pub(crate) channels: usize,
    /// Targets are a class for each position.
    pub(crate) is_map: bool,
}

/// What computes a loss here. Outputs are those of one sample, as the network has them before a function that the loss
/// applies itself; predictions are what that function makes of them. Sums run in the order of the outputs.
pub(crate) trait Kernel: Debug + Send + Sync {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64;

    /// Outputs become predictions.
    fn finish(&self, outputs: &mut [f32]) {
        let _ = outputs;
    }

    /// Predictions, in `values`, become the gradient of the loss by the outputs.
    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>);

    /// What a prediction of the only output is above where the label is.
    fn threshold(&self) -> f32 {
        0.5
    }

    /// The first of these targets that the loss is not defined for.
    fn refused(&self, targets: &[f32]) -> Option<usize> {
        let _ = targets;
        None
    }

    /// Which targets it is defined for, in words.
    fn accepted(&self) -> String {
        "finite numbers".to_owned()
    }
}

pub(crate) fn kernel(loss: &Loss, form: Form) -> Box<dyn Kernel> {
    match loss {
        Loss::CrossEntropy(loss) => Box::new(cross_entropy::CrossEntropy::new(*loss, form)),
        Loss::BinaryCrossEntropy(loss) => Box::new(*loss),
        Loss::CategoricalFocal(loss) => Box::new(*loss),
        Loss::BinaryFocal(loss) => Box::new(*loss),
        Loss::KlDivergence(_) => Box::new(kl_divergence::KlDivergence::new(form)),
        Loss::CategoricalHinge(loss) => Box::new(*loss),
        Loss::Hinge(loss) => Box::new(*loss),
        Loss::SquaredHinge(loss) => Box::new(*loss),
        Loss::Mse(loss) => Box::new(*loss),
        Loss::Mae(loss) => Box::new(*loss),
        Loss::Huber(loss) => Box::new(*loss),
        Loss::LogCosh(loss) => Box::new(*loss),
        Loss::Msle(loss) => Box::new(*loss),
        Loss::Mape(loss) => Box::new(*loss),
        Loss::Quantile(loss) => Box::new(*loss),
        Loss::Poisson(loss) => Box::new(*loss),
        Loss::CosineSimilarity(loss) => Box::new(*loss),
        Loss::Dice(loss) => Box::new(*loss),
        Loss::Jaccard(loss) => Box::new(*loss),
        Loss::Tversky(loss) => Box::new(*loss),
    }
}

/// The mean over the outputs of what `f` makes of an output and its target.
pub(crate) fn mean(values: &[f32], target: Target<'_>, f: impl Fn(f32, f32) -> f64) -> f64 {
    let sum: f64 = values
        .iter()
        .enumerate()
        .map(|(j, &value)| f(value, target.at(j)))
        .sum();
    sum / values.len() as f64
}

/// Puts the derivative of a [`mean`] in each value's place: `f` of the value and its target, divided by how many there
/// are.
fn each(values: &mut [f32], target: Target<'_>, f: impl Fn(f32, f32) -> f32) {
    let width = values.len() as f32;
    for (j, value) in values.iter_mut().enumerate() {
        *value = f(*value, target.at(j)) / width;
    }
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

/// 1 for a label that is, -1 for one that is not: 0 or -1.
fn side(target: f32) -> f32 {
    if target > 0.0 { 1.0 } else { -1.0 }
}
