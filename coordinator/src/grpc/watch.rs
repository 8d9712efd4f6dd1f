//! `WatchJob`: a snapshot, then the latest state of whatever has changed, until the job has ended.

use futures::Stream;
use tonic::Status;
use trainyard_common::ids::JobId;
use trainyard_proto::v1::{JobEvent, job_event::Event};

use super::convert;
use super::status::{ApiError, status};
use crate::cluster::Machine;
use crate::cluster::query::{JobSummary, TrialSummary};
use crate::driver::{CallError, DriverHandle};

/// A job and some of its trials at one moment.
type State = (JobSummary, Vec<TrialSummary>);

/// The stream, or why there is none. Changes from before the snapshot are in it; changes after it
/// follow. A reader that is slow gets fewer, never older, states.
pub(super) async fn open(
    driver: DriverHandle,
    job: JobId,
) -> Result<impl Stream<Item = Result<JobEvent, Status>>, ApiError> {
    let watcher = driver.watch(&job)?;
    let id = job.clone();
    let all = move |machine: &Machine| machine.job(&id).zip(machine.trials(&id));
    let (summary, trials) = driver
        .read(all)
        .await?
        .ok_or(ApiError::NoJob(job.clone()))?;
    Ok(async_stream::try_stream! {
        let mut ended = summary.state.ended();
        yield event(Event::Job(convert::job(summary)));
        for trial in trials {
            yield event(Event::Trial(convert::trial(trial)));
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
            let id = job.clone();
            let look = move |machine: &Machine| -> Option<State> {
                let trials = changes.trials.iter().filter_map(|trial| machine.trial(&id, *trial));
                Some((machine.job(&id)?, trials.collect()))
            };
            let Some((summary, trials)) = driver.read(look).await.map_err(ApiError::from)? else {
                // The job is gone: there is nothing more to watch.
                break;
            };
            ended = summary.state.ended();
            for trial in trials {
                yield event(Event::Trial(convert::trial(trial)));
            }
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
