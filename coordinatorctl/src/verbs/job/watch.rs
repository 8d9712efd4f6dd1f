//! `watch`: a job as it happens.

use crate::connect::Watch;
use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::session::Session;
use crate::verbs::job::result;
use crate::view::convert;
use crate::view::convert::job_ended;
use crate::view::live::{Display, To};
use crate::view::tables;

/// Watch a job until it has ended
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(&args.job).await?;
        session.must_run(&args.job, job_ended(job.state()))?;
        match global.output {
            Format::Json => as_lines(session, &args.job).await,
            Format::Text => as_display(session, &args.job).await,
        }
    })
    .await
}

async fn as_lines(session: &Session, job_id: &str) -> Outcome {
    let mut watch = Watch::open(&session.client, job_id).await?;
    while let Some(event) = watch.next().await? {
        print::json_line(&convert::event(&event))?;
    }
    Ok(())
}

async fn as_display(session: &Session, job_id: &str) -> Outcome {
    let mut watch = Watch::open(&session.client, job_id).await?;
    let mut display = Display::new(To::Output);
    let outcome = async {
        while let Some(event) = watch.next().await? {
            display.apply(event)?;
        }
        Ok(())
    }
    .await;
    display.finish();
    outcome?;
    let result = result::fetch(&session.client, job_id).await?;
    print::line(&format!("\n{}", tables::job(&result.job)))
}
