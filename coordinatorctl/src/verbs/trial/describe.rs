//! `trial describe`: one trial, its attempts and its learning curve.

use crate::exit::Outcome;
use crate::options::{Format, Global, TrialArgs};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::TrialDetail;
use crate::view::tables;

/// Show a trial: configuration, attempts and learning curve
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let (trial, points) = session::with(&global.endpoint(), async |session| {
        session.client.trial(&args.of.job, args.of.trial).await
    })
    .await?;
    let detail = TrialDetail {
        trial: convert::trial(&trial),
        points: points.iter().map(convert::point).collect(),
    };
    match global.output {
        Format::Text => print::line(&tables::trial_detail(&detail)),
        Format::Json => print::json(&detail),
    }
}
