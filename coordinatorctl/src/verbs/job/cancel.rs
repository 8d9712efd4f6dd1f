//! `cancel`: ends a job's trials.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Cancelled;

/// Cancel a job: its running trials stop, no new ones begin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let state = session::with(&global.endpoint(), async |session| {
        session.client.cancel(&args.job).await
    })
    .await
    .map(convert::job_state)?;
    match global.output {
        Format::Text => print::line(&format!("{} is {state}", args.job)),
        Format::Json => print::json(&Cancelled {
            job_id: args.job,
            state,
        }),
    }
}
