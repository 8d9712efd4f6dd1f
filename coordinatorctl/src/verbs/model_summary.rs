//! `model summary`: layers, output shapes and parameter counts of one configuration.

use serde_json::Value;
use trainyard_common::ids::TrialId;
use trainyard_common::network::rules::rules_of;
use trainyard_common::network::{self, ParameterRule};
use trainyard_common::spec::{Document, JobSpec, Params};
use trainyard_worker::data;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::spec::file::SpecArgs;
use crate::verbs::search::preview;
use crate::view::output::{Layer, ModelSummary, Tensor};
use crate::view::tables;
use crate::view::text;

/// Print the layers of a job's network: output shapes and parameter counts
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// A hyperparameter's value; those not named are the search's first. May be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// List every parameter by name, with what `training.parameters` does with it
    #[arg(long)]
    parameters: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let document = args.spec.load(None)?;
    let params = configuration(&document, &args.params)?;
    let trial = document
        .trial(TrialId(0), &params, "")
        .map_err(|errors| args.spec.refusal(&errors))?;
    let Some(model) = &trial.job.model else {
        return Err(Failure::usage(format!(
            "{} has no `model`: its trials run a program",
            args.spec.job.display()
        )));
    };
    let shape = sample_shape(&trial.job).await?;
    let graph = model
        .graph(&shape)
        .map_err(|error| Failure::usage(format!("model.layers: {error}")))?;
    let summary = graph.summary();
    let rules = &trial.job.training.parameters;
    let rules = rules_of(rules, &graph)
        .map_err(|error| Failure::usage(format!("{}: {error}", error.path())))?;
    let tensors: Vec<Tensor> = graph.parameters.iter().zip(rules).map(tensor).collect();
    let summary = converted(params, &summary, tensors);
    match global.output {
        Format::Text => {
            print::line(&tables::model(&summary))?;
            match args.parameters {
                true => print::line(&tables::tensors(&summary)),
                false => Ok(()),
            }
        }
        Format::Json => print::json(&summary),
    }
}

/// The search's first configuration with the given values in place.
fn configuration(document: &Document, given: &[String]) -> Outcome<Params> {
    let mut params = preview::first(document)?;
    let names: Vec<&str> = document
        .job()
        .hyperparameters
        .0
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for pair in given {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "--params {pair}: expected NAME=VALUE, such as lr=0.1"
            ))
        })?;
        if !names.contains(&name) {
            return Err(unknown_parameter(name, &names));
        }
        // Words need no quotes, numbers and true or false are what they look like.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        params.insert(name.to_owned(), value);
    }
    Ok(params)
}

fn unknown_parameter(name: &str, names: &[&str]) -> Failure {
    let hint = match text::near(name, names.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("the spec has: {}", names.join(", ")),
    };
    Failure::usage(format!("--params {name}: no such hyperparameter; {hint}"))
}

/// As the spec says, otherwise as the data says.
async fn sample_shape(job: &JobSpec) -> Outcome<Vec<usize>> {
    if let Some(shape) = job.data.as_ref().and_then(|data| data.shape.clone()) {
        return Ok(shape);
    }
    let dataset = data::load(job)
        .await
        .map_err(|error| Failure::failed(format!("data.shape is not set, and {error}")))?;
    Ok(dataset.sample_shape)
}

fn tensor((parameter, rule): (&network::Parameter, Option<&ParameterRule>)) -> Tensor {
    Tensor {
        name: parameter.name.clone(),
        shape: parameter.shape.clone(),
        parameters: parameter.len() as u64,
        frozen: rule.is_some_and(|rule| rule.frozen),
        learning_rate: rule.and_then(|rule| rule.learning_rate),
    }
}

fn converted(
    params: Params,
    summary: &network::ModelSummary,
    tensors: Vec<Tensor>,
) -> ModelSummary {
    let frozen = tensors.iter().filter(|tensor| tensor.frozen);
    let frozen: u64 = frozen.map(|tensor| tensor.parameters).sum();
    let layers = summary.rows.iter().enumerate().map(|(index, row)| Layer {
        index,
        layer: row.layer.clone(),
        depth: row.depth,
        name: row.name.to_owned(),
        output_shape: row.output_shape.clone(),
        parameters: row.parameters as u64,
        non_trainable: row.non_trainable as u64,
    });
    ModelSummary {
        params: Value::Object(params),
        input_shape: summary.sample_shape.clone(),
        layers: layers.collect(),
        parameters: summary.trainable() as u64 - frozen,
        frozen,
        non_trainable: summary.non_trainable() as u64,
        tensors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_gets_the_near_word() {
        let near = unknown_parameter("unit", &["units", "lr"]).message;
        assert!(near.contains("did you mean `units`?"), "{near}");
        let none = unknown_parameter("momentum", &["units", "lr"]).message;
        assert!(none.contains("the spec has: units, lr"), "{none}");
    }
}
