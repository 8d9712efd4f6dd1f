//! `wait`: until a job has ended; its result is the exit code.

use std::time::Duration;

use trainyard_proto::v1::job_event::Event;

use crate::connect::Watch;
use crate::exit::{Code, Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::session::Session;
use crate::verbs::job::result;
use crate::view::convert::job_ended;
use crate::view::output::JobResult;
use crate::view::tables;

/// Wait until a job has ended; the exit code says how
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Give up after so many seconds, with exit code 124
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let result = session::with(&global.endpoint(), async |session| {
        let waiting = until_ended(session, &args.job);
        match args.timeout.map(Duration::from_secs) {
            None => waiting.await,
            Some(limit) => match tokio::time::timeout(limit, waiting).await {
                Ok(result) => result,
                Err(_) => Err(Failure::new(
                    Code::TimedOut,
                    format!("{} has not ended within {} s", args.job, limit.as_secs()),
                )),
            },
        }
    })
    .await?;
    match global.output {
        Format::Text => print::line(&tables::job(&result.job))?,
        Format::Json => print::json(&result)?,
    }
    result::verdict(&result)
}

async fn until_ended(session: &Session, job_id: &str) -> Outcome<JobResult> {
    let (job, _) = session.client.job(job_id).await?;
    session.must_run(job_id, job_ended(job.state()))?;
    let mut watch = Watch::open(&session.client, job_id).await?;
    while let Some(event) = watch.next().await? {
        if matches!(&event, Event::Job(job) if job_ended(job.state())) {
            break;
        }
    }
    result::fetch(&session.client, job_id).await
}
