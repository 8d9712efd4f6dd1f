//! `trial resume`: lets a paused trial go on.

use crate::cli::Global;
use crate::exit::Outcome;
use crate::session;
use crate::verbs::held;

/// Let a paused trial go on from its checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    #[arg(value_name = "TRIAL")]
    trial: u32,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = Some(args.trial);
    let state = session::with(global, async |session| {
        session.client.resume(&args.job, trial).await
    })
    .await?;
    held::show(global, args.job, trial, &state)
}
