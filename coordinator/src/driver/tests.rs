//! The loop against stores that fail and leaders that are deposed.

use tokio::task::JoinHandle;
use trainyard_common::ids::RequestId;
use trainyard_common::spec::Document;

use super::*;
use crate::cluster::types::MachineConfig;
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
    let (driver, handle) = Driver::new(machine, any, Clock::start(), closing, tasks).unwrap();
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

/// Reports wait for others, but not longer than they may, and not when somebody waits for an answer.
#[tokio::test(start_paused = true)]
async fn reports_gather_until_somebody_waits() {
    let store = MemoryStore::new();
    let term = store.acquire_term().await.unwrap();
    let machine = Machine::new(term, MachineConfig::default());
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let any = AnyStore::Memory(store);
    let (mut driver, handle) = Driver::new(machine, any, Clock::start(), closing, tasks).unwrap();
    driver.gather = Duration::from_millis(100);
    let stop = CancellationToken::new();
    let news = || Input::Tell {
        session: Some(SessionId(1)),
        event: Event::Logs {
            session: SessionId(1),
            rank: crate::cluster::types::RankRef {
                at: crate::cluster::types::AttemptRef {
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
    };
    let sender = handle.inputs.clone();
    tokio::spawn(async move {
        for pause in [0, 60, 60] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            sender.send(news()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let look = Input::Read(Box::new(|_| {}));
        sender.send(look).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        sender.send(news()).await.unwrap();
    });
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut batch = Vec::new();
        assert!(driver.wait(&mut batch, &stop).await);
        driver.gather(&mut batch, &stop).await;
        sizes.push(batch.len());
    }
    // At 0 and 60 ms; at 120 ms and the look; and the last one alone.
    assert_eq!(sizes, [2, 2, 1]);
}
