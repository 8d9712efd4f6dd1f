//! `replay`: whether a job's search, from its spec, seed and log, decides the same once more.
//!
//! The searcher and the scheduler of this program are asked again, not the coordinator's: so it also
//! tells whether another version would go on in the same way.

use std::collections::BTreeMap;

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;
use trainyard_coordinator::cluster::model::SearchEntry;
use trainyard_coordinator::cluster::view::replay::{Tally, verify};
use trainyard_proto::v1;

use crate::exit::{Code, Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::verbs::search::searched::{self, Searched};
use crate::view::output::Replayed;
use crate::view::tables;

/// Replay a job's search from its log, and say whether it decides the same
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Print the log's entries, too: what was suggested, observed and promoted, in order
    #[arg(long)]
    entries: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let Searched { spec, log, trials } = searched::ask(global, &args.job).await?;
    let replayed = replay(&args, &spec, &log, &trials)?;
    match global.output {
        Format::Text => print::line(&tables::replayed(&replayed))?,
        Format::Json => print::json(&replayed)?,
    }
    match replayed.same {
        true => Ok(()),
        false => Err(Failure::quiet(Code::Failed)),
    }
}

fn replay(
    args: &Args,
    spec: &str,
    log: &[v1::SearchLogEntry],
    trials: &[v1::TrialSummary],
) -> Outcome<Replayed> {
    let unreadable =
        |what: &str, error: &dyn std::fmt::Display| searched::unreadable(&args.job, what, error);
    let document = searched::document(&args.job, spec)?;
    let mut entries = Vec::with_capacity(log.len());
    for (index, entry) in (0u32..).zip(log) {
        if entry.index != index {
            let gap = format!("entry {index} is missing");
            return Err(unreadable("the search log", &gap));
        }
        let parsed: SearchEntry = serde_json::from_str(&entry.entry_json)
            .map_err(|e| unreadable(&format!("entry {index} of the search log"), &e))?;
        entries.push(parsed);
    }
    let mut params: BTreeMap<TrialId, Params> = BTreeMap::new();
    for trial in trials {
        let proposed = match trial.suggested_params_json.as_str() {
            "" => &trial.params_json,
            proposed => proposed,
        };
        let given = serde_json::from_str(proposed)
            .map_err(|e| unreadable(&format!("trial {}", trial.trial_id), &e))?;
        params.insert(TrialId(trial.trial_id), given);
    }
    let verified = verify(document.job(), &entries, |trial| params.get(&trial));
    let (tally, difference) = match verified {
        Ok(tally) => (tally, None),
        Err(difference) => (Tally::default(), Some(difference)),
    };
    let shown = || {
        let values = log
            .iter()
            .map(|entry| serde_json::from_str(&entry.entry_json));
        values
            .collect::<Result<_, _>>()
            .map_err(|e| unreadable("the search log", &e))
    };
    Ok(Replayed {
        job_id: args.job.clone(),
        same: difference.is_none(),
        difference,
        suggestions: tally.suggestions,
        results: tally.results,
        rungs: tally.rungs,
        promotions: tally.promotions,
        extensions: tally.extensions,
        log: args.entries.then(shown).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_common::spec::Document;

    const SPEC: &str = r#"
name: s
seed: 5
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
entrypoint: {command: ["true"]}
objectives: [{metric: loss, mode: minimize}]
searcher: {name: random, max_trials: 2}
"#;

    fn args() -> Args {
        Args {
            job: "s-1".to_owned(),
            entries: true,
        }
    }

    fn entry(index: u32, json: &str) -> v1::SearchLogEntry {
        v1::SearchLogEntry {
            index,
            entry_json: json.to_owned(),
        }
    }

    /// A trial as the searcher of the spec proposes it.
    fn proposed(spec: &Document, number: u32) -> v1::TrialSummary {
        use trainyard_coordinator::search::Searcher;
        let job = spec.job();
        let mut searcher = Searcher::of(job).unwrap();
        let suggestions = (0..=number).map(|trial| searcher.suggest(TrialId(trial), None));
        let Some(Some(params)) = suggestions.last() else {
            panic!("no suggestion");
        };
        v1::TrialSummary {
            trial_id: number,
            params_json: serde_json::to_string(&params).unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn the_same_is_told_and_another_decision_is_named() {
        let document = Document::parse(SPEC).unwrap();
        let spec = document.to_json().to_string();
        let mut trials = vec![proposed(&document, 0), proposed(&document, 1)];
        let log = [
            entry(0, r#"{"suggested":{"trial":0}}"#),
            entry(1, r#"{"suggested":{"trial":1}}"#),
            entry(
                2,
                r#"{"observed":{"trial":0,"outcome":{"completed":{"value":0.5}}}}"#,
            ),
        ];
        let told = replay(&args(), &spec, &log, &trials).unwrap();
        assert!(told.same, "{told:?}");
        assert_eq!((told.suggestions, told.results), (2, 1));
        assert_eq!(told.log.unwrap().len(), 3);

        trials[1].params_json = r#"{"x":0.25}"#.to_owned();
        let told = replay(&args(), &spec, &log, &trials).unwrap();
        let difference = told.difference.unwrap();
        assert!(
            !told.same && difference.contains("entry 1: trial 1"),
            "{difference}"
        );

        let gap = replay(&args(), &spec, &log[1..], &trials).unwrap_err();
        assert!(gap.message.contains("entry 0 is missing"), "{gap:?}");
    }
}
