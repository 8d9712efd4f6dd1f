//! `trial list`.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Trials;
use crate::view::tables;

/// List a job's trials in the order of suggestion
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let found = session::with(&global.endpoint(), async |session| {
        session.client.trials(&args.job).await
    })
    .await?;
    let trials: Vec<_> = found.iter().map(convert::trial).collect();
    match global.output {
        Format::Text => print::line(&tables::trials(&trials)),
        Format::Json => print::json(&Trials { trials }),
    }
}
