//! `archive`: moves an ended job into an archive.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::output::Archived;

/// Move an ended job from the coordinator's records into an archive in the store
///
/// `list --archived` shows it; `describe`, `trial`, `best` and `logs` still answer. Its search can no longer
/// be extended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let archived = session::with(&global.endpoint(), async |session| {
        let archived = session.client.archive(&args.job).await?;
        if archived || !session.idle {
            return Ok(archived);
        }
        session.settled().await?;
        session.client.archive(&args.job).await
    })
    .await?;
    match global.output {
        Format::Text => print::line(&match archived {
            true => format!("{} is archived", args.job),
            false => format!("{} is being archived", args.job),
        }),
        Format::Json => print::json(&Archived {
            job_id: args.job,
            archived,
        }),
    }
}
