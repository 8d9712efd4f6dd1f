//! `trial explain`: every decision about a trial, with its reason.

use crate::exit::Outcome;
use crate::options::{Format, Global, TrialArgs};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Explanation;
use crate::view::tables;

/// Show what was decided about a trial, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let (decisions, job) = session::with(&global.endpoint(), async |session| {
        let decisions = session.client.explain(&args.of.job, args.of.trial).await?;
        let (job, _) = session.client.job(&args.of.job).await?;
        Ok((decisions, job))
    })
    .await?;
    let explanation = Explanation {
        job_id: args.of.job,
        trial_id: args.of.trial,
        decisions: decisions.into_iter().map(convert::decision).collect(),
        job_note: job.note,
    };
    match global.output {
        Format::Text => print::line(&tables::explanation(&explanation)),
        Format::Json => print::json(&explanation),
    }
}
