//! `trial explain`: every decision about a trial, with its reason.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Explanation;
use crate::view::tables;

/// Show what was decided about a trial, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    #[arg(value_name = "TRIAL")]
    trial: u32,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let decisions = session::with(&global.endpoint(), async |session| {
        session.client.explain(&args.job, args.trial).await
    })
    .await?;
    let explanation = Explanation {
        job_id: args.job,
        trial_id: args.trial,
        decisions: decisions.into_iter().map(convert::decision).collect(),
    };
    match global.output {
        Format::Text => print::line(&tables::explanation(&explanation)),
        Format::Json => print::json(&explanation),
    }
}
