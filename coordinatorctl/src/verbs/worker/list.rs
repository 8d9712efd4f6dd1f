//! `worker list`.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Workers;
use crate::view::tables;

/// List the workers that a coordinator knows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(global: &Global, _args: Args) -> Outcome {
    let found = session::with(&global.endpoint(), async |session| {
        session.client.workers().await
    })
    .await?;
    let workers: Vec<_> = found.iter().map(convert::worker).collect();
    match global.output {
        Format::Text => print::line(&tables::workers(&workers)),
        Format::Json => print::json(&Workers { workers }),
    }
}
