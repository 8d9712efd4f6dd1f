//! A coordinator to test against, in this process or as one of its own, and a worker that speaks the
//! session's protocol but trains nothing.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use trainyard_common::store_url;
use trainyard_coordinator::store::StoreError;
use trainyard_coordinator::{CoordinatorConfig, CoordinatorError, run_with};
use trainyard_proto::v1::coordinator_message::Message;
use trainyard_proto::v1::job_service_client::JobServiceClient;
use trainyard_proto::v1::report::Body;
use trainyard_proto::v1::worker_message::Message as Told;
use trainyard_proto::v1::worker_service_client::WorkerServiceClient;
use trainyard_proto::v1::*;

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A job of so many trials whose data nobody reads: the worker of these tests trains nothing.
pub(crate) fn job(name: &str, trials: u32) -> String {
    format!(
        r#"
name: {name}
seed: 7
data:
  train: {{csv: {{url: "file:///nowhere/data.csv", targets: [-1]}}}}
  shape: [4]
  classes: 3
split: {{validation: 0.2, test: 0.2}}
model:
  layers:
    - dense: {{units: "${{units}}", activation: relu}}
    - dense: {{units: 3}}
training: {{epochs: 2, batch_size: 8}}
hyperparameters:
  units: {{type: int, minval: 2, maxval: 64}}
objectives: [{{metric: validation_accuracy, mode: maximize}}]
searcher: {{name: random, max_trials: {trials}}}
"#
    )
}

/// Waits for `work`, which must end.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("timed out: {what}"),
    }
}

/// What a worker says of itself.
pub(crate) fn registration(id: &str, slots: usize) -> Register {
    Register {
        worker_id: id.to_owned(),
        host: "here".to_owned(),
        version: "0".to_owned(),
        devices: vec!["cpu".to_owned(); slots],
        collective_address: "127.0.0.1:1".to_owned(),
        cpu_kind: "test".to_owned(),
        running: Vec::new(),
        term: 0,
        secret: vec![7; 32],
        programs: Some(true),
    }
}

/// A coordinator in this process.
pub(crate) struct Local {
    pub(crate) address: String,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), CoordinatorError>>,
}

impl Local {
    /// Starts it on `data_dir` and waits until it serves, or has ended by itself. Connections of one that
    /// was stopped in this process may hold its file for a moment longer.
    pub(crate) async fn start(data_dir: &Path) -> Self {
        soon("the directory to be free", async {
            loop {
                let (mut local, ready) = Self::spawn(data_dir).await;
                if ready.await.is_ok() {
                    return local;
                }
                match local.task.await.unwrap() {
                    Err(CoordinatorError::Store(StoreError::InUse { .. })) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    ended => {
                        local.task = tokio::spawn(async { ended });
                        return local;
                    }
                }
            }
        })
        .await
    }

    /// Told once it serves; closed where it does not.
    async fn spawn(data_dir: &Path) -> (Self, oneshot::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let config = CoordinatorConfig {
            data_dir: Some(data_dir.to_owned()),
            ..CoordinatorConfig::default()
        };
        let (serves, ready) = oneshot::channel();
        let tell = move |_| {
            let _ = serves.send(());
        };
        let running = run_with(config, listener, shutdown.clone(), tell);
        let task = tokio::spawn(Box::pin(running));
        let local = Self {
            address,
            shutdown,
            task,
        };
        (local, ready)
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = soon("the coordinator to stop", self.task).await;
        ended.unwrap().unwrap();
    }
}

impl Local {
    /// Waits until it has ended by itself; tells why.
    pub(crate) async fn failed(self) -> CoordinatorError {
        let ended = soon("the coordinator to fail", self.task).await;
        ended.unwrap().unwrap_err()
    }
}

/// A coordinator as a process, so that it can be killed.
pub(crate) struct Process {
    pub(crate) address: String,
    child: Child,
}

impl Process {
    /// Starts it on `data_dir` and waits until it listens.
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[]).await
    }

    pub(crate) async fn start_with(data_dir: &Path, more: &[&str]) -> Self {
        Self::start_in(data_dir, more, &[]).await
    }

    /// As [`Process::start_with`], with more variables in its environment.
    pub(crate) async fn start_in(
        data_dir: &Path,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
        command.envs(variables.iter().copied());
        Self::spawn(command, data_dir, more).await
    }

    /// With so many files at most.
    pub(crate) async fn start_within(data_dir: &Path, files: u32, more: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_coordinator");
        command.args([
            "-c",
            "ulimit -n $0; exec \"$@\"",
            &files.to_string(),
            program,
        ]);
        Self::spawn(command, data_dir, more).await
    }

    async fn spawn(mut command: Command, data_dir: &Path, more: &[&str]) -> Self {
        let port_file = data_dir.with_extension("port");
        let _ = std::fs::remove_file(&port_file);
        let child = command
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(data_dir)
            .arg("--port-file")
            .arg(&port_file)
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let address = soon("the coordinator to listen", async {
            loop {
                if let Ok(text) = std::fs::read_to_string(&port_file) {
                    return text.trim().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Self { address, child }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(killed.success());
        soon("the coordinator to end", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    soon("a connection", endpoint.connect()).await.unwrap()
}

pub(crate) async fn client(address: &str) -> JobServiceClient<Channel> {
    JobServiceClient::new(channel(address).await)
}

pub(crate) async fn submit(
    client: &mut JobServiceClient<Channel>,
    request_id: &str,
    spec: &str,
) -> Result<String, Status> {
    let request = SubmitJobRequest {
        request_id: request_id.to_owned(),
        spec: spec.to_owned(),
    };
    let answer = client.submit_job(request).await?;
    Ok(answer.into_inner().job_id)
}

/// What a worker remembers while its connection comes and goes.
pub(crate) struct FakeWorker {
    id: String,
    told: mpsc::Sender<WorkerMessage>,
    heard: Streaming<CoordinatorMessage>,
    pub(crate) registered: Registered,
    pub(crate) term: u64,
    sequence: u64,
    pub(crate) acknowledged: u64,
    /// What it says of every store.
    pub(crate) store_fault: Option<String>,
}

impl FakeWorker {
    /// Registers; the coordinator must take it in.
    pub(crate) async fn join(address: &str, id: &str, slots: usize) -> Self {
        Self::register(address, id, slots, Vec::new(), 0)
            .await
            .unwrap()
    }

    /// Registers with what runs there, under the newest term it has seen.
    pub(crate) async fn register(
        address: &str,
        id: &str,
        slots: usize,
        running: Vec<RunningAttempt>,
        term: u64,
    ) -> Result<Self, Status> {
        let register = registration(id, slots);
        Self::register_as(
            address,
            Register {
                running,
                term,
                ..register
            },
        )
        .await
    }

    /// Registers with just this.
    pub(crate) async fn register_as(address: &str, register: Register) -> Result<Self, Status> {
        let mut client = WorkerServiceClient::new(channel(address).await);
        let (told, queue) = mpsc::channel(64);
        let id = register.worker_id.clone();
        told.send(message(Told::Register(register))).await.unwrap();
        let session = client.session(ReceiverStream::new(queue));
        let mut heard = soon("a session", session).await?.into_inner();
        let first = soon("Registered", heard.message()).await?.unwrap();
        let Some(Message::Registered(registered)) = first.message else {
            panic!("expected Registered, got {first:?}");
        };
        Ok(Self {
            id,
            told,
            heard,
            registered,
            term: first.term,
            sequence: 0,
            acknowledged: 0,
            store_fault: None,
        })
    }

    /// The same worker on a new connection.
    pub(crate) async fn again(self, address: &str, running: Vec<RunningAttempt>) -> Self {
        let mut next = Self::register(address, &self.id, 1, running, self.term)
            .await
            .unwrap();
        next.sequence = self.sequence;
        next.acknowledged = self.acknowledged;
        next
    }

    pub(crate) async fn tell(&self, told: Told) {
        self.told.send(message(told)).await.unwrap();
    }

    /// The next assignment or stop; probes are answered and acknowledgements noted on the way.
    pub(crate) async fn hear(&mut self) -> Message {
        loop {
            let message = soon("a message", self.heard.message()).await;
            let message = message.unwrap().expect("the session goes on");
            assert!(message.term >= self.term, "terms never go back");
            match message.message.unwrap() {
                Message::Acknowledged(acknowledged) => {
                    self.acknowledged = acknowledged.sequence;
                    return Message::Acknowledged(acknowledged);
                }
                Message::ProbeStore(probe) => self.prove(probe).await,
                other => return other,
            }
        }
    }

    pub(crate) async fn assignment(&mut self) -> Assignment {
        loop {
            match self.hear().await {
                Message::Assignment(assignment) => return assignment,
                Message::Acknowledged(_) => {}
                other => panic!("expected an assignment, got {other:?}"),
            }
        }
    }

    /// The next assignment, or the status with which the session ends before there is one.
    pub(crate) async fn until_assigned_or_ended(&mut self) -> Result<Assignment, Status> {
        loop {
            let message = soon("a message", self.heard.message()).await?;
            let Some(message) = message else {
                return Err(Status::ok("closed"));
            };
            match message.message.unwrap() {
                Message::Assignment(assignment) => return Ok(assignment),
                Message::ProbeStore(probe) => self.prove(probe).await,
                _ => {}
            }
        }
    }

    /// The status with which the coordinator ends the session.
    pub(crate) async fn ended(mut self) -> Status {
        loop {
            match soon("the end", self.heard.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("closed"),
                Err(status) => return status,
            }
        }
    }

    async fn prove(&self, probe: ProbeStore) {
        let ProbeStore {
            url,
            path,
            content,
            reply_path,
        } = probe;
        let checked = store_url::check_probe(&url, &path, &content, &reply_path).await;
        let error = match &self.store_fault {
            Some(fault) => fault.clone(),
            None => checked.err().map(|e| e.to_string()).unwrap_or_default(),
        };
        self.tell(Told::StoreProbed(StoreProbed { url, path, error }))
            .await;
    }

    /// Reports and gives the report's number back.
    pub(crate) async fn report(&mut self, of: &Assignment, body: Body) -> u64 {
        self.sequence += 1;
        let report = self.numbered(self.sequence, of, body);
        self.tell(Told::Reports(ReportBatch {
            reports: vec![report],
        }))
        .await;
        self.sequence
    }

    /// A report with a number of one's own choice: a replay.
    pub(crate) fn numbered(&self, sequence: u64, of: &Assignment, body: Body) -> Report {
        Report {
            sequence,
            job_id: of.job_id.clone(),
            trial_id: of.trial_id,
            attempt: of.attempt,
            generation: of.generation,
            rank: of.rank,
            time_ms: sequence,
            body: Some(body),
        }
    }

    /// Waits until everything up to `sequence` is acknowledged.
    pub(crate) async fn acknowledged(&mut self, sequence: u64) {
        while self.acknowledged < sequence {
            match self.hear().await {
                Message::Acknowledged(_) => {}
                other => panic!("expected an acknowledgement, got {other:?}"),
            }
        }
    }

    /// Trains as well as a worker that trains nothing can: two epochs with this accuracy.
    pub(crate) async fn finish(&mut self, of: &Assignment, accuracy: f64) {
        for epoch in 1..=2 {
            self.report(of, progress(epoch, accuracy)).await;
            self.report(of, saved(of, epoch, accuracy)).await;
        }
        self.report(of, ended(2, Vec::new())).await;
    }

    /// A line with a number of its own.
    pub(crate) async fn line(&self, of: &Assignment, number: u64, text: &str) {
        self.log(of, number, &[text]).await;
    }

    /// Waits until the lines up to `number` are acknowledged.
    pub(crate) async fn lines_stored(&mut self, number: u64) {
        loop {
            if let Message::Acknowledged(known) = self.hear().await
                && known.lines >= number
            {
                return;
            }
        }
    }

    pub(crate) async fn logs(&self, of: &Assignment, lines: &[&str]) {
        self.log(of, 0, lines).await;
    }

    async fn log(&self, of: &Assignment, first: u64, lines: &[&str]) {
        let lines = lines.iter().map(|text| LogLine {
            level: "info".to_owned(),
            text: (*text).to_owned(),
            ..LogLine::default()
        });
        self.tell(Told::Logs(LogBatch {
            job_id: of.job_id.clone(),
            trial_id: of.trial_id,
            attempt: of.attempt,
            rank: of.rank,
            lines: lines.collect(),
            first,
        }))
        .await;
    }
}

fn message(told: Told) -> WorkerMessage {
    WorkerMessage {
        message: Some(told),
    }
}

pub(crate) fn running(of: &Assignment) -> RunningAttempt {
    RunningAttempt {
        job_id: of.job_id.clone(),
        trial_id: of.trial_id,
        attempt: of.attempt,
        generation: of.generation,
        rank: of.rank,
    }
}

fn metric(name: &str, value: f64) -> Metric {
    Metric {
        name: name.to_owned(),
        value,
    }
}

/// The end of an epoch of ten steps.
pub(crate) fn progress(epoch: u64, accuracy: f64) -> Body {
    Body::Progress(Progress {
        step: epoch * 10,
        epoch,
        metrics: vec![metric("loss", 1.0), metric("validation_accuracy", accuracy)],
        end_of_epoch: true,
        ..Progress::default()
    })
}

pub(crate) fn saved(of: &Assignment, epoch: u64, accuracy: f64) -> Body {
    Body::Checkpoint(CheckpointSaved {
        checkpoint: Some(CheckpointRef {
            manifest: format!("trials/{}/{:012}-1.json", of.trial_id, epoch * 10),
            step: epoch * 10,
            epoch,
            bytes: 100,
            digest: "00".repeat(32),
            metrics: vec![metric("validation_accuracy", accuracy)],
        }),
    })
}

pub(crate) fn ended(epoch: u64, test_metrics: Vec<(&str, f64)>) -> Body {
    Body::Ended(Ended {
        outcome: AttemptOutcome::Completed.into(),
        error: String::new(),
        step: epoch * 10,
        test_metrics: test_metrics
            .into_iter()
            .map(|(n, v)| metric(n, v))
            .collect(),
    })
}
