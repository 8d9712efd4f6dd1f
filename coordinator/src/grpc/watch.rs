//! `WatchJob`: a snapshot, then the latest state of whatever has changed, until the job has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::Stream;
use tokio::time::Instant;
use tonic::Status;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_proto::v1::{JobEvent, job_event::Event};

use super::status::{ApiError, status};
use super::{convert, found};
use crate::clients::Held;
use crate::cluster::Machine;
use crate::cluster::api::TrialSummary;
use crate::cluster::model::JobSummary;
use crate::cluster::view::pages::Most;
use crate::driver::{CallError, DriverHandle};

/// Trials that are looked at, and held for one reader, at a time.
const CHUNK: Most = Most {
    entries: 500,
    bytes: 256 * 1024,
};

/// A watcher looks at most this often: nobody reads faster, and each look keeps the machine from deciding
/// while a commit is under way.
const PAUSE: Duration = Duration::from_millis(50);

/// The stream, or why there is none. Changes from before the snapshot are in it; changes after it
/// follow. Several within [`PAUSE`] come as one; a reader that is slow gets fewer, never older, states.
/// When it ends with the job's end, every trial's last state was told before. `held` counts it.
pub(super) async fn open(
    driver: DriverHandle,
    job: JobId,
    held: Held,
) -> Result<impl Stream<Item = Result<JobEvent, Status>>, ApiError> {
    let watcher = driver.watch(&job);
    let summary = found::job(&driver, &job).await?;
    Ok(async_stream::try_stream! {
        let _held = held;
        let mut ended = summary.state.ended();
        yield event(Event::Job(convert::job(summary)));
        let mut first = Some(TrialId(0));
        while let Some(from) = first {
            let page = found::trials(&driver, &job, from, CHUNK).await?;
            first = page.entries.last().filter(|_| page.more).map(|last| TrialId(last.trial.0 + 1));
            for trial in page.entries {
                yield event(Event::Trial(convert::trial(trial)));
            }
        }
        // Trials that have changed since they were told.
        let mut untold = BTreeSet::new();
        let mut next_look = Instant::now();
        while !ended {
            if untold.is_empty() {
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
                untold = changes.trials;
            }
            let Some(seen) = Seen::now(&driver, &job, &untold).await? else {
                // The job is gone: there is nothing more to watch.
                break;
            };
            untold = untold.split_off(&seen.told_below);
            for trial in seen.trials {
                yield event(Event::Trial(convert::trial(trial)));
            }
            if seen.job.state.ended() {
                // Whoever looks was told of all that is to be seen before: what brought the end is here.
                untold.extend(watcher.take().trials);
                if !untold.is_empty() {
                    continue;
                }
                ended = true;
            }
            yield event(Event::Job(convert::job(seen.job)));
        }
    })
}

/// A job and some of its trials, at one moment.
struct Seen {
    job: JobSummary,
    trials: Vec<TrialSummary>,
    /// Of the trials that were asked for, those below this are here.
    told_below: TrialId,
}

impl Seen {
    /// As many of `wanted`, from the first on, as are told at a time. `None`: there is no such job.
    async fn now(
        driver: &DriverHandle,
        job: &JobId,
        wanted: &BTreeSet<TrialId>,
    ) -> Result<Option<Self>, ApiError> {
        let all_below = TrialId(wanted.last().map_or(0, |last| last.0 + 1));
        let (id, named) = (job.clone(), wanted.clone());
        let look = driver.read(move |machine: &Machine| {
            let summary = machine.any_job(&id)?;
            Some((summary, machine.some_trials(&id, named, CHUNK)))
        });
        let Some((summary, live)) = look.await? else {
            return Ok(None);
        };
        if let Some(page) = live {
            let last = page.entries.last().filter(|_| page.more);
            let told_below = last.map_or(all_below, |last| TrialId(last.trial.0 + 1));
            return Ok(Some(Self {
                job: summary,
                trials: page.entries,
                told_below,
            }));
        }
        // Archived as soon as it had ended.
        let Some(first) = wanted.first() else {
            return Ok(Some(Self {
                job: summary,
                trials: Vec::new(),
                told_below: all_below,
            }));
        };
        Ok(Some(Self {
            job: summary,
            trials: vec![found::trial(driver, job, *first).await?],
            told_below: TrialId(first.0 + 1),
        }))
    }
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

    use super::super::testing::{self, bench};
    use super::*;
    use crate::cluster::api::{self, MachineConfig, Reply};
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
        let (driver, handle) =
            Driver::new(machine, store, Clock::start(), closing, tasks, 2).unwrap();
        tokio::spawn(driver.run(CancellationToken::new()));
        let submit = api::Event::Submit {
            request: RequestId::from("r"),
            document: Box::new(Document::parse(SPEC).unwrap()),
        };
        let Reply::Submitted { job, .. } = handle.ask(submit).await.unwrap() else {
            panic!("not submitted");
        };
        let mut stream = std::pin::pin!(
            open(handle.clone(), job.clone(), testing::held())
                .await
                .unwrap()
        );
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

    /// Many watch while trials end as fast as they can; whoever is told of the job's end was told of every
    /// trial's before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everything_is_told_before_the_end() {
        const TRIALS: u32 = 40;
        let mut bench = bench(TRIALS, 8).await;
        let mut watching = Vec::new();
        for _ in 0..60 {
            let stream = open(bench.driver.clone(), bench.job.clone(), testing::held());
            let mut stream = Box::pin(stream.await.unwrap());
            watching.push(tokio::spawn(async move {
                let mut states = std::collections::BTreeMap::new();
                let mut last = None;
                while let Some(event) = stream.next().await {
                    match event.unwrap().event.unwrap() {
                        Event::Job(job) => last = Some(job.state()),
                        Event::Trial(trial) => {
                            last = None;
                            states.insert(trial.trial_id, trial.state());
                        }
                    }
                }
                (states, last)
            }));
        }
        for number in 0..TRIALS {
            let rank = bench.placed().await;
            bench.epoch(&rank, 1, f64::from(number)).await;
            bench.ended(&rank).await;
        }
        for watched in watching {
            let (states, last) = watched.await.unwrap();
            assert_eq!(last, Some(trainyard_proto::v1::JobState::Completed));
            let open = states
                .iter()
                .filter(|(_, state)| **state != trainyard_proto::v1::TrialState::Completed);
            let open: Vec<_> = open.collect();
            assert!(open.is_empty(), "{open:?}");
            assert_eq!(states.len(), TRIALS as usize);
        }
        assert!(bench.trials().await.iter().all(|(_, ended)| *ended));
    }
}
