//! `preview`: the first configurations of a search, with a trainer or without; or all of it, in virtual time.

use serde_json::Value;
use trainyard_common::ids::TrialId;
use trainyard_common::spec::{Document, Params};

use super::simulate;
use super::simulate::searcher;
use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::ship;
use crate::spec::file::SpecArgs;
use crate::view::output::{Configuration, Preview};
use crate::view::tables;

/// Show the first configurations that the search will try
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// So many configurations
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    #[command(flatten)]
    simulation: simulate::Simulation,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let document = args.spec.load_any()?;
    ship::tell(&document)?;
    if args.simulation.wanted() {
        return simulate::run(global, &document, &args.simulation).await;
    }
    let preview = preview(&document, args.count)?;
    match global.output {
        Format::Text => print::line(&tables::preview(&preview)),
        Format::Json => print::json(&preview),
    }
}

fn preview(document: &Document, count: u32) -> Outcome<Preview> {
    let mut searcher = searcher(document)?;
    let trials_expected = searcher.expected_trials();
    let mut configurations = Vec::new();
    for trial_id in 0..count {
        let Some(params) = searcher.suggest(TrialId(trial_id), None) else {
            break;
        };
        let params = Value::Object(params);
        configurations.push(Configuration { trial_id, params });
    }
    Ok(Preview {
        configurations,
        trials_expected,
        allowed_share: document.space().allowed_share(),
    })
}

/// What trial 0 will be.
pub(crate) fn first(document: &Document) -> Outcome<Params> {
    let first = searcher(document)?.suggest(TrialId(0), None);
    Ok(first.unwrap_or_default())
}
