//! `trial resume`: lets a paused trial go on.

use crate::exit::Outcome;
use crate::options::{Global, TrialArgs};
use crate::session;
use crate::verbs::job::held;

/// Let a paused trial go on from its checkpoint
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = Some(args.of.trial);
    let state = session::with(&global.endpoint(), async |session| {
        session.client.resume(&args.of.job, trial, false).await
    })
    .await?;
    held::show(global, args.of.job, trial, &state)
}
