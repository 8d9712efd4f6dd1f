//! `pause`: holds a job.

use crate::exit::Outcome;
use crate::options::Global;
use crate::session;
use crate::verbs::job::held;

/// Pause a job: its running trials make a checkpoint and stop, no new ones begin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = None;
    let state = session::with(&global.endpoint(), async |session| {
        session.client.pause(&args.job, trial).await
    })
    .await?;
    held::show(global, args.job, trial, &state)
}
