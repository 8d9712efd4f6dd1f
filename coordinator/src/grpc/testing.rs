//! A coordinator's loop with one worker that does what a test says.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trainyard_common::ids::{JobId, RequestId, Term, TrialId, WorkerId};
use trainyard_common::spec::Document;

use crate::clients::{Client, Held, Tally};
use crate::cluster::Machine;
use crate::cluster::api::{
    Event, LogText, MachineConfig, Point, Reply, Report, ReportBody, ToWorker,
};
use crate::cluster::model::{Outcome, RankRef, SessionId, WorkerInfo};
use crate::driver::clock::Clock;
use crate::driver::{Driver, DriverHandle, OutboxReader, Outgoing};
use crate::store::{AnyStore, MemoryStore, Store};

/// The only worker's id.
const WORKER: &str = "w";

pub(super) struct Bench {
    pub(super) driver: DriverHandle,
    pub(super) job: JobId,
    session: SessionId,
    assigned: mpsc::UnboundedReceiver<RankRef>,
    reports: u64,
    lines: u64,
}

/// A job of so many trials on so many slots.
pub(super) async fn bench(trials: u32, slots: usize) -> Bench {
    let store = MemoryStore::new();
    let term = store.acquire_term().await.unwrap();
    let config = MachineConfig {
        single_process: true,
        default_checkpoint_url: "memory://bench/checkpoints".to_owned(),
        ..MachineConfig::default()
    };
    let machine = Machine::new(term, config);
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let store = AnyStore::Memory(store);
    let (driver, handle) = Driver::new(machine, store, Clock::start(), closing, tasks, 2).unwrap();
    tokio::spawn(driver.run(CancellationToken::new()));
    let spec = format!(
        "name: bench\nentrypoint: {{command: [\"true\"]}}\n\
         objectives: [{{metric: loss, mode: minimize}}]\n\
         hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}\n\
         searcher: {{name: random, max_trials: {trials}}}\n"
    );
    let submit = Event::Submit {
        request: RequestId::from("r"),
        document: Box::new(Document::parse(&spec).unwrap()),
    };
    let Reply::Submitted { job, .. } = handle.ask(submit).await.unwrap() else {
        panic!("not submitted");
    };
    let info = WorkerInfo {
        worker: WorkerId::from(WORKER),
        host: "here".to_owned(),
        version: "0".to_owned(),
        devices: vec!["cpu".to_owned(); slots],
        collective_address: "127.0.0.1:1".to_owned(),
        cpu_kind: "x".to_owned(),
        programs: true,
    };
    let (session, reader) = handle
        .join(info, None, None, Vec::new(), Term(0))
        .await
        .unwrap();
    let (sender, assigned) = mpsc::unbounded_channel();
    tokio::spawn(listen(handle.clone(), session, reader, sender));
    Bench {
        driver: handle,
        job,
        session,
        assigned,
        reports: 0,
        lines: 0,
    }
}

/// Proves every store at once, and passes assignments on.
async fn listen(
    driver: DriverHandle,
    session: SessionId,
    mut reader: OutboxReader,
    assigned: mpsc::UnboundedSender<RankRef>,
) {
    while let Some(Ok(message)) = reader.next().await {
        match message {
            Outgoing::ProbeStore { path, .. } => {
                let event = Event::StoreProbed {
                    worker: WorkerId::from(WORKER),
                    path,
                    error: None,
                };
                driver.tell(session, event).await.unwrap();
            }
            Outgoing::Machine(ToWorker::Assign(assignment)) => {
                let (at, rank) = (assignment.at, assignment.rank);
                let _ = assigned.send(RankRef { at, rank });
            }
            Outgoing::Machine(_) => {}
        }
    }
}

impl Bench {
    /// The next attempt that is placed.
    pub(super) async fn placed(&mut self) -> RankRef {
        self.assigned.recv().await.unwrap()
    }

    async fn report(&mut self, rank: &RankRef, body: ReportBody) {
        self.reports += 1;
        let report = Report {
            sequence: self.reports,
            rank: rank.clone(),
            time_ms: 0,
            body,
        };
        let event = Event::Reports {
            session: self.session,
            reports: vec![report],
        };
        self.driver.tell(self.session, event).await.unwrap();
    }

    /// An epoch of this value.
    pub(super) async fn epoch(&mut self, rank: &RankRef, epoch: u64, loss: f64) {
        let point = Point {
            step: epoch,
            epoch,
            metrics: vec![("loss".to_owned(), loss)],
            end_of_epoch: true,
            epochs_from_zero: false,
            time_ms: 0,
        };
        self.report(rank, ReportBody::Progress(point)).await;
    }

    pub(super) async fn ended(&mut self, rank: &RankRef) {
        let body = ReportBody::Ended {
            outcome: Outcome::Completed,
            error: String::new(),
            step: 0,
            test_metrics: Vec::new(),
        };
        self.report(rank, body).await;
    }

    /// Lines that the attempt has written; stored when this returns.
    pub(super) async fn log(&mut self, rank: &RankRef, texts: impl IntoIterator<Item = String>) {
        let lines = texts.into_iter().map(|text| LogText {
            time_ms: 0,
            level: "info".to_owned(),
            text,
        });
        let lines: Vec<_> = lines.collect();
        let first = self.lines + 1;
        self.lines += lines.len() as u64;
        let event = Event::Logs {
            session: self.session,
            rank: rank.clone(),
            first,
            lines,
        };
        self.driver.tell(self.session, event).await.unwrap();
        self.driver.read(|_| ()).await.unwrap();
    }

    /// Every trial as it stands.
    pub(super) async fn trials(&self) -> Vec<(TrialId, bool)> {
        let job = self.job.clone();
        let look = move |machine: &Machine| machine.trials(&job).unwrap();
        let trials = self.driver.read(look).await.unwrap().into_iter();
        trials
            .map(|trial| (trial.trial, trial.state.ended()))
            .collect()
    }
}

/// A place among the watchers.
pub(super) fn held() -> Held {
    let tally: Arc<Tally> = Tally::new(1, 1);
    tally.enter(Client::at(None)).unwrap()
}
