//! `logs`: what a job's trials have written.

use crate::connect::Logs;
use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::tables;

/// Print the log lines of a job's trials
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Only this trial's
    #[arg(long, value_name = "N")]
    trial: Option<u32>,
    /// Go on with new lines until the trials have ended
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    print_logs(global, &args.job, args.trial, args.follow).await
}

/// Prints the lines, one by one as they come.
pub(crate) async fn print_logs(
    global: &Global,
    job: &str,
    trial: Option<u32>,
    follow: bool,
) -> Outcome {
    session::with(&global.endpoint(), async |session| {
        // Where nothing runs, no new lines come.
        let follow = follow && !session.idle;
        let mut logs = Logs::new(&session.client, job, trial, follow);
        while let Some(line) = logs.next().await? {
            let line = convert::log_line(&line);
            match global.output {
                Format::Text => print::line(&tables::log_line(&line))?,
                Format::Json => print::json_line(&line)?,
            }
        }
        Ok(())
    })
    .await
}
