//! `WatchJob`: a snapshot, then the latest state of whatever has changed, until the job has ended.

use std::time::Duration;

use futures::Stream;
use tokio::time::Instant;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::{JobEvent, job_event::Event};

use super::status::{ApiError, status};
use super::{convert, found};
use crate::cluster::Machine;
use crate::cluster::api::TrialSummary;
use crate::driver::{CallError, DriverHandle};

/// Trials that are looked at, and held for one reader, at a time.
const CHUNK: usize = 500;

/// A watcher looks at most this often: nobody reads faster, and each look keeps the machine from deciding
/// while a commit is under way.
const PAUSE: Duration = Duration::from_millis(50);

/// The stream, or why there is none. Changes from before the snapshot are in it; changes after it
/// follow. Several within [`PAUSE`] come as one; a reader that is slow gets fewer, never older, states.
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
        let mut next_look = Instant::now();
        while !ended {
            let changed = async {
                tokio::time::sleep_until(next_look).await;
                watcher.next().await
            };
            let changes = tokio::select! {
                biased;
                () = driver.closing().cancelled() => Err(stopped()),
                changes = changed => Ok(changes),
            }?;
            next_look = Instant::now() + PAUSE;
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

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;
    use trainyard_common::ids::RequestId;
    use trainyard_common::spec::Document;

    use super::*;
    use crate::cluster::api;
    use crate::cluster::api::{MachineConfig, Reply};
    use crate::driver::Driver;
    use crate::driver::clock::Clock;
    use crate::store::{AnyStore, MemoryStore, Store as _};

    const SPEC: &str = r#"
name: watched
entrypoint: {command: ["true"]}
objectives: [{metric: loss, mode: minimize}]
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
searcher: {name: random, max_trials: 1}
"#;

    #[tokio::test(start_paused = true)]
    async fn changes_within_a_moment_come_as_one_and_the_last_is_not_lost() {
        let store = MemoryStore::new();
        let term = store.acquire_term().await.unwrap();
        let machine = Machine::new(term, MachineConfig::default());
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let store = AnyStore::Memory(store);
        let (driver, handle) = Driver::new(machine, store, Clock::start(), closing, tasks).unwrap();
        tokio::spawn(driver.run(CancellationToken::new()));
        let submit = api::Event::Submit {
            request: RequestId::from("r"),
            document: Box::new(Document::parse(SPEC).unwrap()),
        };
        let Reply::Submitted { job, .. } = handle.ask(submit).await.unwrap() else {
            panic!("not submitted");
        };
        let mut stream = std::pin::pin!(open(handle.clone(), job.clone()).await.unwrap());
        let snapshot = stream.next().await.unwrap().unwrap();
        assert!(matches!(snapshot.event, Some(Event::Job(_))));
        let changing = async {
            for number in 0..21 {
                let request = RequestId::from(format!("r-{number}").as_str());
                let (job, trial) = (job.clone(), None);
                let event = match number % 2 {
                    0 => api::Event::Pause {
                        request,
                        job,
                        trial,
                    },
                    _ => api::Event::Resume {
                        request,
                        job,
                        trial,
                    },
                };
                handle.ask(event).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut seen = Vec::new();
        let watching = async {
            let until = Instant::now() + 3 * PAUSE;
            while let Ok(next) = tokio::time::timeout_at(until, stream.next()).await {
                if let Some(Event::Job(job)) = next.unwrap().unwrap().event {
                    seen.push(job.state());
                }
            }
        };
        tokio::join!(changing, watching);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[1], trainyard_proto::v1::JobState::Paused);
    }
}
