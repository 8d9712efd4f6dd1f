//! `resume`: lets a paused job go on, or tries what has failed of it again.

use crate::exit::Outcome;
use crate::options::Global;
use crate::session;
use crate::verbs::job::held;

/// Let a paused job go on, each trial from its checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Try its failed trials again; a job that has failed goes on, and keeps what has completed
    #[arg(long)]
    retry_failed: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = None;
    let state = session::with(&global.endpoint(), async |session| {
        let client = &session.client;
        client.resume(&args.job, trial, args.retry_failed).await
    })
    .await?;
    held::show(global, args.job, trial, &state)
}
