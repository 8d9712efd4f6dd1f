//! `WatchJob`: a snapshot, then the latest state of whatever has changed, until the job has ended.

use futures::Stream;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::{JobEvent, job_event::Event};

use super::status::{ApiError, status};
use super::{convert, found};
use crate::cluster::Machine;
use crate::cluster::query::TrialSummary;
use crate::driver::{CallError, DriverHandle};

/// Trials that are looked at, and held for one reader, at a time.
const CHUNK: usize = 500;

/// The stream, or why there is none. Changes from before the snapshot are in it; changes after it
/// follow. A reader that is slow gets fewer, never older, states.
pub(super) async fn open(
    driver: DriverHandle,
    job: JobId,
) -> Result<impl Stream<Item = Result<JobEvent, Status>>, ApiError> {
    let watcher = driver.watch(&job)?;
    let summary = found::job(&driver, &job).await?;
    Ok(async_stream::try_stream! {
        let mut ended = summary.state.ended();
        yield event(Event::Job(convert::job(summary)));
        let mut first = Some(TrialId(0));
        while let Some(from) = first {
            let trials = found::trials(&driver, &job, from, CHUNK).await?;
            let whole = trials.len() == CHUNK;
            first = trials.last().filter(|_| whole).map(|last| TrialId(last.trial.0 + 1));
            for trial in trials {
                yield event(Event::Trial(convert::trial(trial)));
            }
        }
        while !ended {
            let changes = tokio::select! {
                biased;
                () = driver.closing().cancelled() => Err(stopped()),
                changes = watcher.next() => Ok(changes),
            }?;
            if !changes.job && changes.trials.is_empty() {
                continue;
            }
            let changed: Vec<TrialId> = changes.trials.into_iter().collect();
            for some in changed.chunks(CHUNK) {
                let (id, some) = (job.clone(), some.to_vec());
                let look = move |machine: &Machine| -> Vec<TrialSummary> {
                    some.iter().filter_map(|trial| machine.trial(&id, *trial)).collect()
                };
                for trial in driver.read(look).await.map_err(ApiError::from)? {
                    yield event(Event::Trial(convert::trial(trial)));
                }
            }
            let id = job.clone();
            let look = driver.read(move |machine| machine.any_job(&id));
            let Some(summary) = look.await.map_err(ApiError::from)? else {
                // The job is gone: there is nothing more to watch.
                break;
            };
            ended = summary.state.ended();
            yield event(Event::Job(convert::job(summary)));
        }
    })
}

fn event(event: Event) -> JobEvent {
    JobEvent { event: Some(event) }
}

/// What open streams end with when the coordinator stops.
pub(super) fn stopped() -> Status {
    status(&ApiError::Call(CallError::Stopped))
}
