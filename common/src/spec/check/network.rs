//! Layers: their numbers, and whether their shapes fit.

use super::Findings;
use super::data::SOURCES;
use super::job::check_url;
use crate::network::shape::is_sample_shape;
use crate::network::{self, Problem, TargetKind, rules};
use crate::spec::data::{Scaling, SourceSpec, Task};
use crate::spec::{JobSpec, ModelSpec};

pub(super) fn check(model: &ModelSpec, spec: &JobSpec, found: &mut Findings) {
    let mut numbers = network::Findings::default();
    model.check(&mut numbers);
    if let Some(weights) = &model.weights {
        check_url(&weights.url, "model.weights.url", &SOURCES, found);
    }
    rules::check(&spec.training.parameters, &mut numbers);
    for (path, message) in numbers.into_inner() {
        found.add(path, message);
    }
    if !model.layers.is_empty() || model.architecture.is_some() {
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
    let looks_up = |node: &network::Node| matches!(node.op, network::Op::Embedding(_));
    found.expect(
        spec.preprocess.scaling == Scaling::None || !graph.nodes.iter().any(looks_up),
        "preprocess.scaling",
        "a scaling of samples that an `embedding` takes as whole numbers",
        "`scaling: none`",
    );
    if let Err(error) = rules::rules_of(&spec.training.parameters, &graph) {
        found.add(error.path(), error.to_string());
    }
    let loss = spec.training.loss_of(data.task);
    let (targets, why) = match (data.task, &data.train) {
        (Task::Classification, _) => (TargetKind::Classes(data.classes), "data.classes"),
        (Task::Regression, SourceSpec::Csv(csv)) => (
            TargetKind::Values(Some(csv.targets.len())),
            "data.train.csv.targets",
        ),
        (Task::Regression, SourceSpec::Idx(_)) => {
            (TargetKind::Values(Some(1)), "data.train.idx.labels")
        }
    };
    // A loss for other targets was reported above, with the field.
    let takes = match data.task {
        Task::Classification => loss.takes().classes(),
        Task::Regression => loss.takes().values(),
    };
    if takes && let Err(error) = graph.check_output(&loss, targets) {
        let by = match (&error.problem, targets) {
            (_, TargetKind::Classes(None)) => String::new(),
            (Problem::Output { .. }, _) => format!(" (by {why})"),
            _ => String::new(),
        };
        found.add(error.path.clone(), format!("{error}{by}"));
    }
}
