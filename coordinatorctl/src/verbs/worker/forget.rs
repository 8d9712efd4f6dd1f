//! `worker forget`.

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::verbs::worker::named;
use crate::view::output::Forgotten;
use crate::{print, session};

/// Give a worker up that is gone: nothing of it is waited for any more
///
/// What it ran goes on elsewhere at once instead of after its lease, a drain of it is taken back, and its id is
/// anybody's: a process that has lost the secret of its first registration can come back under it. Refused while
/// the worker is connected.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The worker, as `worker list` names it, or its name where no other has it
    #[arg(value_name = "WORKER")]
    worker: String,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let (worker_id, answer) = session::with(&global.endpoint(), async |session| {
        let worker_id = named::id(session, &args.worker).await?;
        let answer = session.client.forget_worker(&worker_id).await?;
        Ok((worker_id, answer))
    })
    .await?;
    match global.output {
        Format::Text => print::line(&match answer.attempts {
            0 => format!("{worker_id} is forgotten"),
            held => format!("{worker_id} is forgotten; {held} slots that it held are lost"),
        }),
        Format::Json => print::json(&Forgotten {
            worker_id,
            slots_used: answer.attempts,
        }),
    }
}
