//! `describe`: everything about one job.

use serde_json::Value;

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::JobDetail;
use crate::view::tables;

/// Show a job, its trials and (with --output json) its resolved spec
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let detail = session::with(&global.endpoint(), async |session| {
        let (job, spec) = session.client.job(&args.job).await?;
        let trials = session.client.trials(&args.job).await?;
        Ok(JobDetail {
            job: convert::job(&job),
            trials: trials.iter().map(convert::trial).collect(),
            spec: serde_json::from_str(&spec).unwrap_or(Value::String(spec)),
        })
    })
    .await?;
    match global.output {
        Format::Text => print::line(&tables::job_detail(&detail)),
        Format::Json => print::json(&detail),
    }
}
