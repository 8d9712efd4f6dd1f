//! `worker list`.

use crate::cli::{Format, Global};
use crate::exit::Outcome;
use crate::output::Workers;
use crate::{convert, print, session, tables};

/// List the workers that a coordinator knows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(global: &Global, _args: Args) -> Outcome {
    let found = session::with(global, async |session| session.client.workers().await).await?;
    let workers: Vec<_> = found.iter().map(convert::worker).collect();
    match global.output {
        Format::Text => print::line(&tables::workers(&workers)),
        Format::Json => print::json(&Workers { workers }),
    }
}
