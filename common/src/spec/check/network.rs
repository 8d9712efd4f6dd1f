//! Layers: their numbers, and whether their shapes fit.

use super::Findings;
use crate::network::shape::is_sample_shape;
use crate::network::{self, Problem, Trailing};
use crate::spec::data::{SourceSpec, Task};
use crate::spec::training::Loss;
use crate::spec::{JobSpec, ModelSpec};

pub(super) fn check(model: &ModelSpec, spec: &JobSpec, found: &mut Findings) {
    let mut numbers = network::Findings::default();
    model.check(&mut numbers);
    for (path, message) in numbers.into_inner() {
        found.add(path, message);
    }
    if !model.layers.is_empty() {
        check_shapes(model, spec, found);
    }
}

/// The shape check, where the document tells a sample's shape.
fn check_shapes(model: &ModelSpec, spec: &JobSpec, found: &mut Findings) {
    let Some(data) = &spec.data else { return };
    let Some(shape) = &data.shape else { return };
    if !is_sample_shape(shape) {
        return;
    }
    let graph = match model.graph(shape) {
        Ok(graph) => graph,
        // Zeros were reported above, with the field.
        Err(error) if matches!(error.problem, Problem::Zero { .. }) => return,
        Err(error) => {
            found.add(error.path.clone(), error.to_string());
            return;
        }
    };
    let summary = graph.summary();
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
        found.add(summary.output_path(), format!("{error} (by {why})"));
    } else if graph.trailing() == Trailing::Softmax && summary.output_shape() == [1] {
        found.add(
            summary.output_path(),
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
