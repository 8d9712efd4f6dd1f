//! `submit`: hands a job to a coordinator.

use crate::connect::Client;
use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::ship;
use crate::spec::file::SpecArgs;
use crate::spec::warm::{self, WarmArgs};
use crate::view::output::Submitted;

/// Submit a job to a coordinator and print its id
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    warm: WarmArgs,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    if global.data_dir.is_some() {
        return Err(Failure::usage(
            "--data-dir: a job is submitted to a coordinator; `coordinatorctl run` trains one in a \
             data directory",
        ));
    }
    let document = warm::load(global, &args.spec, &args.warm).await?;
    let client = Client::connect(&global.coordinator).await?;
    let answer = ship::submit(&client, &document).await?;
    for warning in &answer.warnings {
        if !document.warnings().contains(warning) {
            print::remark(&format!("warning: {warning}"));
        }
    }
    match global.output {
        Format::Text => print::line(&answer.job_id),
        Format::Json => print::json(&Submitted {
            job_id: answer.job_id,
            warnings: answer.warnings,
        }),
    }
}
