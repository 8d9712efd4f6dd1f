//! `insight`: what a search has found out: which hyperparameters matter, how the objective depends on them,
//! and how the best came about.

use std::collections::BTreeMap;

use trainyard_coordinator::cluster::model::SearchEntry;
use trainyard_coordinator::insight::{Summary, Tried, summary};
use trainyard_proto::v1;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::verbs::search::searched::{self, Searched};
use crate::view::output::{Dependence, Insight, Pair, Share, Volume};
use crate::view::tables;

/// Show what a search has found out: which hyperparameters matter, the best so far
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Shows how the objective depends on this hyperparameter; may be repeated
    #[arg(long, value_name = "NAME")]
    param: Vec<String>,
    /// Values at which a dependence is shown
    #[arg(long, value_name = "N", default_value_t = 9,
          value_parser = clap::value_parser!(u32).range(2..=1_000))]
    points: u32,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let Searched { spec, log, trials } = searched::ask(global, &args.job).await?;
    let insight = insight(&args, &spec, &log, &trials)?;
    match global.output {
        Format::Text => print::line(&tables::insight(&insight)),
        Format::Json => print::json(&insight),
    }
}

fn insight(
    args: &Args,
    spec: &str,
    log: &[v1::SearchLogEntry],
    trials: &[v1::TrialSummary],
) -> Outcome<Insight> {
    let document = searched::document(&args.job, spec)?;
    let names = document
        .space()
        .parameters()
        .iter()
        .map(|known| known.name.as_str());
    let names: Vec<&str> = names.collect();
    if let Some(unknown) = args
        .param
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        return Err(Failure::usage(format!(
            "--param: {} has no hyperparameter `{unknown}`; accepted are {}",
            args.job,
            names.join(", ")
        )));
    }
    let values = values(log);
    let tried = trials.iter().map(|trial| Tried {
        trial: trial.trial_id,
        params: serde_json::from_str(&trial.params_json).unwrap_or_default(),
        value: trial.best_value,
        values: values.get(&trial.trial_id).cloned().unwrap_or_default(),
    });
    let tried: Vec<Tried> = tried.collect();
    let objectives = &document.job().objectives;
    let found = summary(document.space(), objectives, &tried, args.points as usize);
    let names = objectives.iter().map(|objective| objective.metric.clone());
    Ok(shown(args, names.collect(), found, &values))
}

fn shown(
    args: &Args,
    objectives: Vec<String>,
    found: Summary,
    values: &BTreeMap<u32, Vec<f64>>,
) -> Insight {
    let best = |best: Vec<(u32, f64)>| {
        let each = best.into_iter();
        each.map(|(trial_id, value)| Volume { trial_id, value })
            .collect()
    };
    let importance = found.importance.into_iter().map(|of| Share {
        parameter: of.parameter,
        share: of.share,
        spread: of.spread,
    });
    let interactions = found.interactions.into_iter().map(|of| Pair {
        parameters: of.parameters,
        share: of.share,
    });
    let dependence = found.dependence.into_iter();
    let wanted = dependence.filter(|(name, _)| args.param.contains(name));
    let dependence = wanted.map(|(parameter, curve)| Dependence {
        parameter,
        values: curve.ticks.values,
        mean: curve.mean,
        spread: curve.spread,
    });
    let front = found.front.into_iter();
    let front = front.map(|trial| (trial, values.get(&trial).cloned().unwrap_or_default()));
    Insight {
        job_id: args.job.clone(),
        objectives,
        trials: found.trials,
        importance: importance.collect(),
        interactions: interactions.collect(),
        dependence: dependence.collect(),
        history: best(found.history),
        front: front.collect(),
        hypervolume: best(found.hypervolume),
        reference: found.reference,
    }
}

/// The values of all objectives of each trial that has ended with them.
fn values(log: &[v1::SearchLogEntry]) -> BTreeMap<u32, Vec<f64>> {
    let entries = log
        .iter()
        .filter_map(|entry| serde_json::from_str::<SearchEntry>(&entry.entry_json).ok());
    let ended = entries.filter_map(|entry| match entry {
        SearchEntry::Observed(seen) if !seen.values.is_empty() => Some((seen.trial.0, seen.values)),
        _ => None,
    });
    ended.collect()
}
