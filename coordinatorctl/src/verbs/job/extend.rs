//! `extend`: more trials or more time for a search.

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Extended;

/// Add trials or time to a search that goes on or has completed
///
/// A completed job is opened again; its winner is judged anew at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Trials to add
    #[arg(long, value_name = "N", default_value_t = 0)]
    trials: u32,
    /// Seconds to add to the search's max_time, from its end or from now, whichever is later
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    time: f64,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    if args.trials == 0 && args.time == 0.0 {
        return Err(Failure::usage(
            "extend: give --trials N, --time SECONDS or both".to_owned(),
        ));
    }
    let answer = session::with(&global.endpoint(), async |session| {
        session
            .client
            .extend(&args.job, args.trials, args.time)
            .await
    })
    .await?;
    let state = convert::job_state(answer.state());
    let expected = (answer.trials_expected > 0).then_some(answer.trials_expected);
    match global.output {
        Format::Text => print::line(&match expected {
            Some(trials) => format!("{} is {state}; its search has {trials} trials", args.job),
            None => format!("{} is {state}", args.job),
        }),
        Format::Json => print::json(&Extended {
            job_id: args.job,
            state,
            trials_expected: expected,
        }),
    }
}
