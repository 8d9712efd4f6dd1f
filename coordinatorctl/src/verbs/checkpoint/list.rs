//! `checkpoint list`.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Checkpoints;
use crate::view::tables;

/// List a job's checkpoints
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Only this trial's
    #[arg(long, value_name = "N")]
    trial: Option<u32>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let answer = session::with(&global.endpoint(), async |session| {
        session.client.checkpoints(&args.job, args.trial).await
    })
    .await?;
    let entries = answer.checkpoints.iter().filter_map(convert::checkpoint);
    let list = Checkpoints {
        checkpoint_url: answer.checkpoint_url,
        checkpoints: entries.collect(),
    };
    match global.output {
        Format::Text => print::line(&tables::checkpoints(&list)),
        Format::Json => print::json(&list),
    }
}
