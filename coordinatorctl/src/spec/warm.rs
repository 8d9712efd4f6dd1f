//! `--warm-start JOB`: an earlier job's results, written into a spec as `searcher.prior_results`.
//!
//! The spec then holds all that the search depends on; the earlier job may go.

use serde_json::{Value, json};
use trainyard_common::spec::{Document, Params};
use trainyard_proto::v1;

use crate::exit::{Failure, Outcome};
use crate::options::Global;
use crate::print;
use crate::session;
use crate::spec::file::SpecArgs;

/// Results that are taken over at most, the best; a spec has a largest size.
const MOST: usize = 1_000;

/// Arguments of the verbs that begin a search.
#[derive(Debug, clap::Args)]
pub(crate) struct WarmArgs {
    /// The search begins with what this earlier job has found out: its completed trials are known results
    #[arg(long, value_name = "JOB")]
    warm_start: Option<String>,
}

/// The checked spec, with the earlier job's results where one is named. Asks where `global` says.
pub(crate) async fn load(global: &Global, spec: &SpecArgs, warm: &WarmArgs) -> Outcome<Document> {
    let Some(earlier) = &warm.warm_start else {
        return spec.load(None);
    };
    let plain = spec.load(None)?;
    let (job, trials) = session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(earlier).await?;
        Ok((job, session.client.trials(earlier).await?))
    })
    .await?;
    let objective = plain.job().objectives.first();
    let metric = objective.map_or("", |objective| objective.metric.as_str());
    if job.objective != metric {
        return Err(Failure::usage(format!(
            "--warm-start: {earlier} was judged by `{}`, this job is by `{metric}`; accepted is a job with the \
             same first objective",
            job.objective
        )));
    }
    let known = known(&plain, &trials);
    let maximize = job.maximize;
    let taken = best(known, maximize);
    print::remark(&format!(
        "begins with {} results of {earlier}; it has {} trials",
        taken.len(),
        trials.len()
    ));
    let results: Vec<Value> = taken
        .into_iter()
        .map(|(params, value)| json!({ "params": params, "value": value }))
        .collect();
    spec.load(Some(format!(
        "searcher.prior_results={}",
        Value::from(results)
    )))
}

/// Completed trials whose configurations are of this job's space too.
fn known(document: &Document, trials: &[v1::TrialSummary]) -> Vec<(Params, f64)> {
    let completed = trials
        .iter()
        .filter(|trial| trial.state() == v1::TrialState::Completed);
    completed
        .filter_map(|trial| {
            let value = trial.best_value.filter(|value| value.is_finite())?;
            let params: Params = serde_json::from_str(&trial.params_json).ok()?;
            let fits = document.space().contains(&params).is_ok();
            fits.then_some((params, value))
        })
        .collect()
}

/// The best of them, in the order of trials.
fn best(mut known: Vec<(Params, f64)>, maximize: bool) -> Vec<(Params, f64)> {
    if known.len() <= MOST {
        return known;
    }
    let cost = |value: f64| if maximize { -value } else { value };
    let mut costs: Vec<f64> = known.iter().map(|(_, value)| cost(*value)).collect();
    costs.sort_by(f64::total_cmp);
    let worst = costs[MOST - 1];
    known.retain(|(_, value)| cost(*value) <= worst);
    known.truncate(MOST);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(params: Value, value: f64, state: v1::TrialState) -> v1::TrialSummary {
        v1::TrialSummary {
            params_json: params.to_string(),
            best_value: Some(value),
            state: state.into(),
            ..Default::default()
        }
    }

    #[test]
    fn results_of_the_same_space_are_taken() {
        let document = Document::parse(
            "name: a\nhyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n\
             entrypoint: {command: [\"true\"]}\nobjectives: [{metric: loss, mode: minimize}]\n\
             searcher: {max_trials: 3}",
        )
        .unwrap();
        use v1::TrialState::{Completed, Failed};
        let trials = [
            trial(json!({"x": 0.5}), 1.0, Completed),
            trial(json!({"x": 2.0}), 2.0, Completed),
            trial(json!({"x": 0.1}), f64::NAN, Completed),
            trial(json!({"x": 0.2}), 0.1, Failed),
            trial(json!({"y": 0.2}), 0.1, Completed),
        ];
        let found = known(&document, &trials);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0["x"].as_f64(), found[0].1), (Some(0.5), 1.0));
    }

    #[test]
    fn of_very_many_the_best_are_taken() {
        let many = (0..MOST + 500).map(|i| (Params::new(), i as f64)).collect();
        let found = best(many, true);
        assert_eq!(found.len(), MOST);
        assert!(found.iter().all(|(_, value)| *value >= 500.0));
    }
}
