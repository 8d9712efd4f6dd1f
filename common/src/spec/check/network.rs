//! Layers: their numbers, and whether their shapes fit.

use super::{Findings, is_positive, is_share};
use crate::shapes::{self, ShapeProblem};
use crate::spec::data::{SourceSpec, Task};
use crate::spec::model::{Activation, LayerSpec};
use crate::spec::training::Loss;
use crate::spec::{JobSpec, ModelSpec};

const MAX_LAYERS: usize = 1_000;

pub(super) fn check(model: &ModelSpec, spec: &JobSpec, found: &mut Findings) {
    if model.layers.is_empty() || model.layers.len() > MAX_LAYERS {
        found.add(
            "model.layers",
            format!(
                "{} layers given; accepted are 1 to {MAX_LAYERS}",
                model.layers.len()
            ),
        );
        return;
    }
    for (i, layer) in model.layers.iter().enumerate() {
        check_numbers(layer, &format!("model.layers[{i}].{}", layer.name()), found);
    }
    check_shapes(model, spec, found);
}

fn check_numbers(layer: &LayerSpec, path: &str, found: &mut Findings) {
    match layer {
        LayerSpec::Dropout(dropout) => found.expect(
            is_share(dropout.rate),
            format!("{path}.rate"),
            dropout.rate,
            "numbers from 0, below 1",
        ),
        LayerSpec::BatchNorm(norm) => {
            found.expect(
                is_share(norm.momentum),
                format!("{path}.momentum"),
                norm.momentum,
                "numbers from 0, below 1",
            );
            found.expect(
                is_positive(norm.epsilon),
                format!("{path}.epsilon"),
                norm.epsilon,
                "numbers above 0",
            );
        }
        LayerSpec::Activation(activation) => {
            let Some(alpha) = activation.alpha else {
                return;
            };
            found.expect(
                matches!(activation.function, Activation::LeakyRelu | Activation::Elu),
                format!("{path}.alpha"),
                alpha,
                "`alpha` with leaky_relu and elu only",
            );
            found.expect(
                is_positive(alpha),
                format!("{path}.alpha"),
                alpha,
                "numbers above 0",
            );
        }
        LayerSpec::Dense(dense) => at_least_one(dense.units, &format!("{path}.units"), found),
        LayerSpec::Conv2d(conv) => {
            at_least_one(conv.filters, &format!("{path}.filters"), found);
            pair(conv.kernel.get(), &format!("{path}.kernel"), found);
            pair(conv.stride.get(), &format!("{path}.stride"), found);
        }
        LayerSpec::MaxPool2d(pool) | LayerSpec::AvgPool2d(pool) => {
            pair(pool.size.get(), &format!("{path}.size"), found);
            if let Some(stride) = pool.stride {
                pair(stride.get(), &format!("{path}.stride"), found);
            }
        }
        LayerSpec::Flatten(_) => {}
    }
}

fn at_least_one(value: usize, path: &str, found: &mut Findings) {
    found.expect(value > 0, path, value, "whole numbers from 1");
}

fn pair((height, width): (usize, usize), path: &str, found: &mut Findings) {
    at_least_one(height.min(width), path, found);
}

/// The shape check, where the document tells a sample's shape.
fn check_shapes(model: &ModelSpec, spec: &JobSpec, found: &mut Findings) {
    let Some(data) = &spec.data else { return };
    let Some(shape) = &data.shape else { return };
    if !matches!(shape.len(), 1 | 3) || shape.contains(&0) {
        return;
    }
    let summary = match shapes::summarize(shape, &model.layers) {
        Ok(summary) => summary,
        // Zeros were reported above, with the field.
        Err(error) if matches!(error.problem, ShapeProblem::Zero { .. }) => return,
        Err(error) => {
            found.add(format!("model.layers[{}]", error.layer), error.to_string());
            return;
        }
    };
    let path = format!("model.layers[{}]", model.layers.len() - 1);
    let binary = matches!(spec.training.loss, Some(Loss::BinaryCrossEntropy(_)));
    let (expected, why) = match (data.task, &data.train) {
        (Task::Classification, _) if binary => (Some(1), "binary_cross_entropy".to_owned()),
        (Task::Classification, _) => (data.classes, "data.classes".to_owned()),
        (Task::Regression, SourceSpec::Csv(csv)) => {
            (Some(csv.targets.len()), "data.train.csv.targets".to_owned())
        }
        (Task::Regression, SourceSpec::Idx(_)) => (Some(1), "data.train.idx.labels".to_owned()),
    };
    if let Some(expected) = expected
        && let Err(error) = summary.check_outputs(expected)
    {
        found.add(path, format!("{error} (by {why})"));
    } else if ends_in_softmax(model) && summary.output_shape() == [1] {
        found.add(
            path,
            "a softmax over one output is 1 always; accepted: a sigmoid, or more outputs",
        );
    }
    if let (true, Some(classes)) = (binary, data.classes) {
        found.expect(
            classes == 2,
            "data.classes",
            format!("{classes} with binary_cross_entropy"),
            "2, or `loss: cross_entropy`",
        );
    }
}

fn ends_in_softmax(model: &ModelSpec) -> bool {
    match model.layers.last() {
        Some(LayerSpec::Dense(dense)) => dense.activation == Activation::Softmax,
        Some(LayerSpec::Activation(activation)) => activation.function == Activation::Softmax,
        _ => false,
    }
}
