//! `trial logs`: what one trial has written.

use crate::exit::Outcome;
use crate::options::{Global, TrialArgs};
use crate::verbs::job::logs;

/// Print the log lines of one trial
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
    /// Go on with new lines until the trial has ended
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    logs::print_logs(global, &args.of.job, Some(args.of.trial), args.follow).await
}
