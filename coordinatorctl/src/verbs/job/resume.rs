//! `resume`: lets a paused job go on.

use crate::exit::Outcome;
use crate::options::Global;
use crate::session;
use crate::verbs::job::held;

/// Let a paused job go on, each trial from its checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = None;
    let state = session::with(&global.endpoint(), async |session| {
        session.client.resume(&args.job, trial).await
    })
    .await?;
    held::show(global, args.job, trial, &state)
}
