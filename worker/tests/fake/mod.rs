//! A coordinator for tests: takes workers in, sends what the test says, and remembers everything.

// A test's scaffold: what fails here fails the test, and not every test needs all of it.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use trainyard_proto::v1::coordinator_message::Message as Tell;
use trainyard_proto::v1::worker_message::Message as Said;
use trainyard_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use trainyard_proto::v1::{
    Acknowledged, CoordinatorMessage, Register, Registered, Report, RunningAttempt, StoreProbed,
    WorkerMessage, report::Body,
};

/// How long any condition may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

type Sender = mpsc::Sender<Result<CoordinatorMessage, Status>>;

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// One for each session.
    pub(crate) registers: Vec<Register>,
    /// Every report in the order of arrival, replays too.
    pub(crate) arrived: Vec<Report>,
    pub(crate) log: String,
    /// Number of the newest line in it.
    pub(crate) log_lines: u64,
    pub(crate) probed: Vec<StoreProbed>,
    pub(crate) heartbeats: usize,
    pub(crate) leaving: bool,
    pub(crate) ended_sessions: usize,
}

impl Seen {
    /// Each report once, by sequence, as a coordinator counts them.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        for report in &self.arrived {
            if reports
                .last()
                .is_none_or(|last| report.sequence > last.sequence)
            {
                reports.push(report.clone());
            }
        }
        reports
    }

    pub(crate) fn ends(&self) -> Vec<trainyard_proto::v1::Ended> {
        let ended = |report: Report| match report.body {
            Some(Body::Ended(ended)) => Some(ended),
            _ => None,
        };
        self.reports().into_iter().filter_map(ended).collect()
    }

    /// A letter for each report: s(tarted), p(rogress), e(poch), c(heckpoint), d(ropped), E(nded).
    pub(crate) fn story(&self) -> String {
        let letter = |report: &Report| match &report.body {
            Some(Body::Started(_)) => 's',
            Some(Body::Progress(progress)) if progress.end_of_epoch => 'e',
            Some(Body::Progress(_)) => 'p',
            Some(Body::Checkpoint(_)) => 'c',
            Some(Body::Dropped(_)) => 'd',
            Some(Body::Ended(_)) => 'E',
            None => '?',
        };
        self.reports().iter().map(letter).collect()
    }
}

#[derive(Debug)]
struct Shared {
    seen: watch::Sender<Seen>,
    session: Mutex<Option<(Sender, CancellationToken)>>,
    settings: Mutex<Settings>,
}

/// How the next messages are answered.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) term: u64,
    pub(crate) acknowledge: bool,
    pub(crate) refuse: Option<Status>,
    pub(crate) abandon: Vec<RunningAttempt>,
}

pub(crate) struct FakeCoordinator {
    pub(crate) address: String,
    shared: Arc<Shared>,
    server: CancellationToken,
}

impl Drop for FakeCoordinator {
    fn drop(&mut self) {
        self.server.cancel();
    }
}

impl FakeCoordinator {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            seen: watch::Sender::default(),
            session: Mutex::default(),
            settings: Mutex::new(Settings {
                term: 1,
                acknowledge: true,
                refuse: None,
                abandon: Vec::new(),
            }),
        });
        let server = CancellationToken::new();
        let service = WorkerServiceServer::new(Service(shared.clone()));
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                server.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        Self {
            address,
            shared,
            server,
        }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.settings.lock().unwrap());
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits for a condition on what has happened.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let met = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| condition(seen))).await;
        match met {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("waited in vain for {what}: {:#?}", self.seen()),
        }
    }

    /// Sends a message over the present session.
    pub(crate) async fn tell(&self, message: Tell) {
        let term = self.shared.settings.lock().unwrap().term;
        let sender = self.shared.session.lock().unwrap().clone();
        let message = CoordinatorMessage {
            term,
            message: Some(message),
        };
        sender
            .expect("a session")
            .0
            .send(Ok(message))
            .await
            .unwrap();
    }

    /// Breaks the present session off.
    pub(crate) fn drop_session(&self) {
        if let Some((_, broken)) = self.shared.session.lock().unwrap().take() {
            broken.cancel();
        }
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming
            .message()
            .await?
            .and_then(|message| message.message);
        let Some(Said::Register(register)) = first else {
            return Err(Status::invalid_argument("the first message is Register"));
        };
        let settings = self.0.settings.lock().unwrap().clone();
        if let Some(status) = settings.refuse {
            return Err(status);
        }
        let (sender, messages) = mpsc::channel(64);
        let registered = Registered {
            heartbeat_interval_ms: 50,
            lease_ms: 2_000,
            abandon: settings.abandon,
        };
        let broken = CancellationToken::new();
        sender
            .send(Ok(CoordinatorMessage {
                term: settings.term,
                message: Some(Tell::Registered(registered)),
            }))
            .await
            .unwrap();
        *self.0.session.lock().unwrap() = Some((sender.clone(), broken.clone()));
        self.0
            .seen
            .send_modify(|seen| seen.registers.push(register));
        tokio::spawn(listen(self.0.clone(), incoming, sender, broken));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

async fn listen(
    shared: Arc<Shared>,
    mut incoming: Streaming<WorkerMessage>,
    sender: Sender,
    broken: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            () = broken.cancelled() => {
                let _ = sender.send(Err(Status::unavailable("broken off by the test"))).await;
                break;
            }
            message = incoming.message() => match message {
                Ok(Some(message)) => message,
                _ => break,
            },
        };
        let mut highest = None;
        shared
            .seen
            .send_modify(|seen| highest = note(seen, message));
        let settings = shared.settings.lock().unwrap().clone();
        if let Some(acknowledged) = highest.filter(|_| settings.acknowledge) {
            let acknowledged = Tell::Acknowledged(acknowledged);
            let message = CoordinatorMessage {
                term: settings.term,
                message: Some(acknowledged),
            };
            if sender.send(Ok(message)).await.is_err() {
                break;
            }
        }
    }
    shared.seen.send_modify(|seen| seen.ended_sessions += 1);
}

/// Remembers a message; gives what there is to acknowledge of it.
fn note(seen: &mut Seen, message: WorkerMessage) -> Option<Acknowledged> {
    match message.message {
        Some(Said::Reports(batch)) => {
            let highest = batch.reports.iter().map(|report| report.sequence).max();
            seen.arrived.extend(batch.reports);
            return highest.map(|sequence| Acknowledged { sequence, lines: 0 });
        }
        Some(Said::Logs(batch)) => {
            let lines = batch.first + batch.lines.len() as u64 - 1;
            for (number, line) in (batch.first..).zip(batch.lines) {
                // Told again after a broken connection, a line is not written again.
                if number > seen.log_lines {
                    seen.log_lines = number;
                    seen.log.push_str(&line.text);
                    seen.log.push('\n');
                }
            }
            return Some(Acknowledged { sequence: 0, lines });
        }
        Some(Said::Heartbeat(_)) => seen.heartbeats += 1,
        Some(Said::StoreProbed(probed)) => seen.probed.push(probed),
        Some(Said::Leaving(_)) => seen.leaving = true,
        Some(Said::Register(_)) | None => {}
    }
    None
}
