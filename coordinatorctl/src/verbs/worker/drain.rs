//! `worker drain` and `worker undrain`.

use std::time::Duration;

use trainyard_proto::v1::WorkerState;

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::verbs::worker::named;
use crate::view::output::Drained;

/// Between two looks at a worker that drains.
const POLL: Duration = Duration::from_millis(500);

/// Move everything off a worker at a checkpoint, and place nothing new there
///
/// Stands until `worker undrain`, whatever restarts meanwhile. Its trials go on elsewhere; it counts as
/// nobody's failure.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// The worker, as `worker list` names it, or its name where no other has it
    #[arg(value_name = "WORKER")]
    worker: String,
    /// Return once nothing runs there any more
    #[arg(long)]
    wait: bool,
}

/// Place trials on a drained worker again
#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    /// The worker, as `worker list` names it, or its name where no other has it
    #[arg(value_name = "WORKER")]
    worker: String,
}

pub(crate) async fn drain(global: &Global, args: DrainArgs) -> Outcome {
    let (worker, answer) = session::with(&global.endpoint(), async |session| {
        let worker = named::id(session, &args.worker).await?;
        let mut answer = session.client.drain_worker(&worker, false).await?;
        while args.wait && answer.attempts > 0 {
            tokio::time::sleep(POLL).await;
            let known = session.client.workers().await?;
            let found = known.iter().find(|known| known.worker_id == worker);
            // One that is gone holds nothing any more.
            let held = found.filter(|found| found.state() != WorkerState::Lost);
            answer.attempts = held.map_or(0, |found| found.slots_used);
        }
        Ok((worker, answer))
    })
    .await?;
    let text = match answer.attempts {
        0 => format!("{worker} is drained"),
        left => format!("{worker} is draining; {left} slots are still in use"),
    };
    show(global, worker, answer, &text)
}

pub(crate) async fn undrain(global: &Global, args: UndrainArgs) -> Outcome {
    let (worker, answer) = session::with(&global.endpoint(), async |session| {
        let worker = named::id(session, &args.worker).await?;
        let answer = session.client.drain_worker(&worker, true).await?;
        Ok((worker, answer))
    })
    .await?;
    let text = format!("{worker} may be used again");
    show(global, worker, answer, &text)
}

fn show(
    global: &Global,
    worker_id: String,
    answer: trainyard_proto::v1::DrainWorkerResponse,
    text: &str,
) -> Outcome {
    match global.output {
        Format::Text => print::line(text),
        Format::Json => print::json(&Drained {
            worker_id,
            draining: answer.draining,
            slots_used: answer.attempts,
        }),
    }
}
