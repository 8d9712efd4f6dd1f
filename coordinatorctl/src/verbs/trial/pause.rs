//! `trial pause`: holds one trial.

use crate::exit::Outcome;
use crate::options::{Global, TrialArgs};
use crate::session;
use crate::verbs::job::held;

/// Pause one trial: it makes a checkpoint and gives its slots back
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = Some(args.of.trial);
    let state = session::with(&global.endpoint(), async |session| {
        session.client.pause(&args.of.job, trial).await
    })
    .await?;
    held::show(global, args.of.job, trial, &state)
}
