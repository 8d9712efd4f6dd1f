//! `delete`: removes an ended job for good.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::output::Deleted;

/// Remove an ended job for good: its records, learning curves, logs and archive
///
/// Its id is never used again. Its checkpoints stay unless --checkpoints is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Cancel it first if it has not ended
    #[arg(long)]
    force: bool,
    /// Its checkpoints, too
    #[arg(long)]
    checkpoints: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    session::with(&global.endpoint(), async |session| {
        session
            .client
            .delete(&args.job, args.force, args.checkpoints)
            .await
    })
    .await?;
    match global.output {
        Format::Text => print::line(&format!("{} is deleted", args.job)),
        Format::Json => print::json(&Deleted {
            job_id: args.job,
            checkpoints: args.checkpoints,
        }),
    }
}
