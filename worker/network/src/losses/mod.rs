//! Losses of one sample, and their gradients by the network's output: a file each, and a line in [`kernel`].

mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod mae;
mod mse;

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
}

impl Target<'_> {
    /// What output `j` should be.
    pub(crate) fn at(&self, j: usize) -> f32 {
        match *self {
            Self::OneHot(class) => f32::from(u8::from(class == j)),
            Self::Number(value) => value,
            Self::Values(values) => values[j],
        }
    }
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
    fn differentiate(&self, values: &mut [f32], target: Target<'_>);
}

pub(crate) fn kernel(loss: &Loss) -> Box<dyn Kernel> {
    match loss {
        Loss::CrossEntropy(loss) => Box::new(*loss),
        Loss::BinaryCrossEntropy(loss) => Box::new(*loss),
        Loss::Mse(loss) => Box::new(*loss),
        Loss::Mae(loss) => Box::new(*loss),
        Loss::Huber(loss) => Box::new(*loss),
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
