//! `list`: the jobs of a coordinator or a data directory.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Jobs;
use crate::view::tables;

/// List jobs, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this workspace's
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// The archived ones instead of the others
    #[arg(long)]
    archived: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let workspace = args.workspace.unwrap_or_default();
    let found = session::with(&global.endpoint(), async |session| {
        let (limit, archived) = (args.limit, args.archived);
        session.client.jobs(&workspace, limit, archived).await
    })
    .await?;
    let jobs: Vec<_> = found.iter().map(convert::job).collect();
    match global.output {
        Format::Text => print::line(&tables::jobs(&jobs)),
        Format::Json => print::json(&Jobs { jobs }),
    }
}
