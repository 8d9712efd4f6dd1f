//! The loop against stores that fail and leaders that are deposed.

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use trainyard_common::ids::{JobId, RequestId, TrialId};
use trainyard_common::spec::Document;

use super::*;
use crate::cluster::api::{MachineConfig, Rejection, Reply};
use crate::store::MemoryStore;

const SPEC: &str = r#"
name: loop
data:
  train: {csv: {url: "file:///nowhere/data.csv", targets: [-1]}}
  shape: [4]
  classes: 3
model: {layers: [{dense: {units: 3}}]}
objectives: [{metric: validation_accuracy, mode: maximize}]
searcher: {name: random, max_trials: 1}
"#;

struct Loop {
    store: MemoryStore,
    handle: DriverHandle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DriverError>>,
}

async fn start() -> Loop {
    let store = MemoryStore::new();
    let term = store.acquire_term().await.unwrap();
    let machine = Machine::new(term, MachineConfig::default());
    let any = AnyStore::Memory(store.clone());
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (driver, handle) = Driver::new(machine, any, Clock::start(), closing, tasks, 2).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    Loop {
        store,
        handle,
        stop,
        task,
    }
}

impl Loop {
    async fn submit(&self, request: &str) -> Result<Reply, CallError> {
        let event = Event::Submit {
            request: RequestId::from(request),
            document: Box::new(Document::parse(SPEC).unwrap()),
        };
        self.handle.ask(event).await
    }

    async fn jobs(&self) -> Result<usize, CallError> {
        self.handle.read(|machine| machine.jobs().len()).await
    }
}

#[tokio::test]
async fn what_is_answered_is_stored() {
    let running = start().await;
    assert!(running.store.load().await.unwrap().is_empty());
    running.submit("r-1").await.unwrap();
    let stored = running.store.load().await.unwrap();
    assert!(
        stored.iter().any(|(key, _)| key.starts_with("job/")),
        "{stored:?}"
    );
    assert_eq!(running.jobs().await.unwrap(), 1);
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
    assert!(matches!(
        running.handle.ask(Event::Tick).await,
        Err(CallError::Stopped)
    ));
}

#[tokio::test]
async fn a_full_disk_stops_the_loop_before_anything_is_answered() {
    let running = start().await;
    running.submit("r-1").await.unwrap();
    running.store.set_full(true);
    let refused = running.submit("r-2").await;
    assert!(matches!(refused, Err(CallError::Stopped)), "{refused:?}");
    let error = running.task.await.unwrap().unwrap_err();
    let full = matches!(error, DriverError::Store(StoreError::DiskFull { .. }));
    assert!(full, "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
}

#[tokio::test]
async fn a_deposed_leader_writes_and_answers_nothing() {
    let running = start().await;
    running.store.acquire_term().await.unwrap();
    let refused = running.submit("r-1").await;
    assert!(matches!(refused, Err(CallError::Stopped)), "{refused:?}");
    let error = running.task.await.unwrap().unwrap_err();
    let deposed = matches!(error, DriverError::Store(StoreError::Deposed { .. }));
    assert!(deposed, "{error}");
    assert!(running.store.load().await.unwrap().is_empty());
}

/// A loop that does not run by itself, around a store without jobs.
async fn still() -> (MemoryStore, Driver, DriverHandle) {
    let store = MemoryStore::new();
    let term = store.acquire_term().await.unwrap();
    let machine = Machine::new(term, MachineConfig::default());
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let any = AnyStore::Memory(store.clone());
    let (driver, handle) = Driver::new(machine, any, Clock::start(), closing, tasks, 2).unwrap();
    (store, driver, handle)
}

fn submission(request: &str) -> (Input, oneshot::Receiver<Result<Option<Reply>, Rejection>>) {
    let (reply, answer) = oneshot::channel();
    let event = Event::Submit {
        request: RequestId::from(request),
        document: Box::new(Document::parse(SPEC).unwrap()),
    };
    (Input::Ask { event, reply }, answer)
}

/// Lets everything that can go on do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_commit_is_decided_for_the_next_and_waits_for_it() {
    let (store, driver, handle) = still().await;
    let permits = Arc::new(Semaphore::new(0));
    store.let_pass(&permits);
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    let (first, mut first_answer) = submission("r-1");
    handle.inputs.send(first).await.unwrap();
    settle().await;
    let (second, mut second_answer) = submission("r-2");
    handle.inputs.send(second).await.unwrap();
    settle().await;
    assert!(first_answer.try_recv().is_err());
    permits.add_permits(1);
    settle().await;
    assert!(first_answer.try_recv().unwrap().is_ok());
    let jobs = |stored: Vec<(String, Vec<u8>)>| {
        let keys = stored.into_iter().map(|(key, _)| key);
        keys.filter(|key| key.starts_with("job/")).count()
    };
    assert_eq!(jobs(store.load().await.unwrap()), 1);
    assert!(second_answer.try_recv().is_err(), "its commit is under way");
    permits.add_permits(1);
    settle().await;
    assert!(second_answer.try_recv().unwrap().is_ok());
    assert_eq!(jobs(store.load().await.unwrap()), 2);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_looks_sees_nothing_that_is_not_committed() {
    let (store, driver, handle) = still().await;
    let permits = Arc::new(Semaphore::new(0));
    store.let_pass(&permits);
    let (first, _answer) = submission("r-1");
    handle.inputs.send(first).await.unwrap();
    let (seen, sees) = oneshot::channel();
    let look = Box::new(|machine: &Machine| seen.send(machine.jobs().len()).unwrap());
    handle.inputs.send(Input::Read(look)).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    settle().await;
    // In one commit, which waits. What comes now is not to be seen by that look.
    let (second, mut answer) = submission("r-2");
    handle.inputs.send(second).await.unwrap();
    settle().await;
    permits.add_permits(1);
    assert_eq!(sees.await.unwrap(), 1);
    settle().await;
    assert!(answer.try_recv().is_err());
    permits.add_permits(1);
    settle().await;
    assert!(answer.try_recv().unwrap().is_ok());
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// Else who looks could see the end of something whose last news is still to come.
#[tokio::test(start_paused = true)]
async fn who_looks_was_told_of_all_that_is_to_be_seen() {
    let (_, driver, handle) = still().await;
    let watcher = handle.watch(&JobId::from("loop-1"));
    let (seen, sees) = oneshot::channel();
    let look = Box::new(move |machine: &Machine| {
        let told = watcher.take().job;
        seen.send((machine.jobs().len(), told)).unwrap();
    });
    // Both are taken in at one time, the look first.
    handle.inputs.send(Input::Read(look)).await.unwrap();
    let (submission, _answer) = submission("r-1");
    handle.inputs.send(submission).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    assert_eq!(sees.await.unwrap(), (1, true));
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_stopped_commits_what_came_before() {
    let (store, driver, handle) = still().await;
    let (first, answer) = submission("r-1");
    handle.inputs.send(first).await.unwrap();
    handle.inputs.send(lines()).await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    driver.run(stop).await.unwrap();
    assert!(answer.await.unwrap().is_ok());
    assert!(!store.load().await.unwrap().is_empty());
}

/// Log lines, for the loop.
fn lines() -> Input {
    Input::Tell {
        session: Some(SessionId(1)),
        event: Event::Logs {
            session: SessionId(1),
            rank: crate::cluster::model::RankRef {
                at: crate::cluster::model::AttemptRef {
                    job: JobId::from("j"),
                    trial: TrialId(0),
                    attempt: trainyard_common::ids::AttemptId(0),
                    generation: trainyard_common::ids::Generation(1),
                },
                rank: 0,
            },
            first: 1,
            lines: Vec::new(),
        },
    }
}

/// Runs the loop until something is to be committed; how many inputs led to it.
async fn turn(driver: &mut Driver) -> usize {
    let (mut taken, stop) = (Vec::new(), CancellationToken::new());
    loop {
        let until = driver.decided.until;
        if until.is_some_and(|until| until <= Instant::now()) {
            driver.flushed = Some(Instant::now());
            return std::mem::take(&mut driver.decided).inputs;
        }
        if let Next::Decide = driver.next(&mut taken, false, &stop).await {
            driver.decide(&mut taken);
        }
    }
}

/// Where a commit costs no object, too, the last lines of an attempt share one with its end.
#[tokio::test(start_paused = true)]
async fn log_lines_wait_for_the_reports_behind_them() {
    let (_, mut driver, handle) = still().await;
    let sender = handle.inputs.clone();
    tokio::spawn(async move {
        sender.send(lines()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (session, reports) = (SessionId(1), Vec::new());
        let event = Event::Reports { session, reports };
        let session = Some(session);
        sender.send(Input::Tell { session, event }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        sender.send(lines()).await.unwrap();
    });
    let begun = Instant::now();
    let mut turns = Vec::new();
    for _ in 0..2 {
        let inputs = turn(&mut driver).await;
        turns.push((begun.elapsed().as_millis(), inputs));
    }
    assert_eq!(turns, [(2, 2), (8, 1)]);
}

/// Reports wait for others, but not longer than they may, and not when somebody waits for an answer.
#[tokio::test(start_paused = true)]
async fn reports_gather_until_somebody_waits() {
    let (_, mut driver, handle) = still().await;
    driver.gather = Duration::from_millis(100);
    driver.flushed = Some(Instant::now());
    let sender = handle.inputs.clone();
    tokio::spawn(async move {
        for pause in [0, 60, 60] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            sender.send(lines()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let look = Input::Read(Box::new(|_| {}));
        sender.send(look).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        sender.send(lines()).await.unwrap();
    });
    let mut sizes = Vec::new();
    for _ in 0..3 {
        sizes.push(turn(&mut driver).await);
    }
    // At 0 and 60 ms; at 120 ms and the look; and the last one alone.
    assert_eq!(sizes, [2, 2, 1]);
    // What comes after a pause does not wait.
    tokio::time::sleep(driver.gather).await;
    let (session, reports) = (SessionId(1), Vec::new());
    let event = Event::Reports { session, reports };
    let session = Some(session);
    handle
        .inputs
        .send(Input::Tell { session, event })
        .await
        .unwrap();
    let begun = Instant::now();
    assert_eq!(turn(&mut driver).await, 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
