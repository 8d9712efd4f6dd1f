//! `best`: the winner of a search, or the leader while it goes on.

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::tables;

/// Show a job's best trial: configuration, metrics and where its checkpoint lies
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let best = session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(&args.job).await?;
        let best = match job.best_trial {
            Some(trial) => vec![session.client.trial(&args.job, trial).await?.0],
            None => Vec::new(),
        };
        convert::best(&job, &best).ok_or_else(|| {
            let metric = if job.objective.is_empty() {
                "a value of its objective"
            } else {
                &job.objective
            };
            let yet = match convert::job_ended(job.state()) {
                true => "",
                false => " yet",
            };
            Failure::not_found(format!(
                "no trial of {} has reported {metric}{yet}",
                args.job
            ))
        })
    })
    .await?;
    match global.output {
        Format::Text => print::line(&tables::best(&best)),
        Format::Json => print::json(&best),
    }
}
