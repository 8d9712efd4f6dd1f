//! `trial retry`: tries a failed trial again.

use crate::exit::Outcome;
use crate::options::{Global, TrialArgs};
use crate::session;
use crate::verbs::job::held;

/// Try a failed trial again, from its checkpoint where it has one; a job that has failed goes on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let trial = Some(args.of.trial);
    let state = session::with(&global.endpoint(), async |session| {
        session.client.resume(&args.of.job, trial, true).await
    })
    .await?;
    held::show(global, args.of.job, trial, &state)
}
