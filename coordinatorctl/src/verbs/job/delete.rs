//! `delete`: removes an ended job for good.

use trainyard_common::store_url::redacted;

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::output::Deleted;

/// Remove an ended job for good: its records, learning curves, logs and archive
///
/// Its id is never used again. Its checkpoints and artifacts stay unless --checkpoints is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Cancel it first if it has not ended
    #[arg(long)]
    force: bool,
    /// Its checkpoints and artifacts, too
    #[arg(long)]
    checkpoints: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let kept = session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(&args.job).await?;
        session
            .client
            .delete(&args.job, args.force, args.checkpoints)
            .await?;
        Ok(Some(job.checkpoint_url).filter(|_| !args.checkpoints))
    })
    .await?;
    match global.output {
        Format::Text => print::line(&match &kept {
            Some(url) => format!(
                "{} is deleted; what checkpoints and artifacts it has stay below {}",
                args.job,
                redacted(url)
            ),
            None => format!("{} is deleted with its checkpoints", args.job),
        }),
        Format::Json => print::json(&Deleted {
            job_id: args.job,
            checkpoints: args.checkpoints,
            checkpoint_url: kept,
        }),
    }
}
