//! `trial logs`: what one trial has written.

use crate::exit::Outcome;
use crate::options::Global;
use crate::verbs::job::logs;

/// Print the log lines of one trial
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    #[arg(value_name = "TRIAL")]
    trial: u32,
    /// Go on with new lines until the trial has ended
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    logs::print_logs(global, &args.job, Some(args.trial), args.follow).await
}
