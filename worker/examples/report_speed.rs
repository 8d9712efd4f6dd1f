//! Durable results a second: speaks to a coordinator as a worker process does, over gRPC, and reports
//! as fast as it is acknowledged. A real trainer does not report that fast, so this one trains nothing.
//!
//! ```sh
//! coordinator --listen 127.0.0.1:7070 --data-dir DIR
//! cargo run --release -p trainyard-worker --example report_speed -- --coordinator http://127.0.0.1:7070
//! ```
//!
//! Submits a job of as many trials as slots, takes them all, and sends results (the end of an epoch with
//! two metrics each) of all trials in turn. At most `--window` messages wait for their acknowledgement,
//! as the report buffer of a worker bounds it. Prints one JSON object.
#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use trainyard_common::store_url;
use trainyard_proto::v1::coordinator_message::Message as Told;
use trainyard_proto::v1::job_service_client::JobServiceClient;
use trainyard_proto::v1::report::Body;
use trainyard_proto::v1::worker_message::Message as Say;
use trainyard_proto::v1::worker_service_client::WorkerServiceClient;
use trainyard_proto::v1::{
    Assignment, AttemptOutcome, CoordinatorMessage, Ended, Heartbeat, Metric, Progress, Register,
    Report, ReportBatch, Started, StoreProbed, SubmitJobRequest, WorkerMessage,
};
use trainyard_proto::{MAX_MESSAGE_BYTES, MAX_REPORTS_PER_BATCH};

#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Where the coordinator listens.
    #[arg(long, default_value = "http://127.0.0.1:7070")]
    coordinator: String,
    /// Trials that report at once.
    #[arg(long, default_value_t = 16)]
    trials: usize,
    /// Results in all.
    #[arg(long, default_value_t = 500_000)]
    results: usize,
    /// Results in a message.
    #[arg(long, default_value_t = MAX_REPORTS_PER_BATCH)]
    batch: usize,
    /// Messages that may wait for their acknowledgement.
    #[arg(long, default_value_t = 64)]
    window: usize,
}

/// One conversation, in the place of a worker's.
struct Session {
    said: mpsc::Sender<WorkerMessage>,
    heard: Streaming<CoordinatorMessage>,
    began: Instant,
    last_heartbeat: Instant,
    heartbeat: Duration,
    sequence: u64,
}

impl Session {
    async fn open(address: &str, slots: usize) -> Result<Self> {
        let endpoint = Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true);
        let mut client = WorkerServiceClient::new(endpoint.connect().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (said, queue) = mpsc::channel(8);
        let register = Register {
            worker_id: format!("report-speed-{}", std::process::id()),
            host: "report-speed".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices: vec!["cpu".to_owned(); slots],
            collective_address: "127.0.0.1:1".to_owned(),
            cpu_kind: "none".to_owned(),
            ..Register::default()
        };
        said.send(message(Say::Register(register))).await?;
        let session = client.session(ReceiverStream::new(queue)).await?;
        let mut heard = session.into_inner();
        let first = heard.message().await?.and_then(|first| first.message);
        let Some(Told::Registered(registered)) = first else {
            bail!("expected Registered, got {first:?}");
        };
        Ok(Self {
            said,
            heard,
            began: Instant::now(),
            last_heartbeat: Instant::now(),
            heartbeat: Duration::from_millis(registered.heartbeat_interval_ms.into()),
            sequence: 0,
        })
    }

    /// The next thing that matters; probes are answered and heartbeats sent on the way.
    async fn hear(&mut self) -> Result<Told> {
        loop {
            self.beat().await?;
            let next = tokio::time::timeout(self.heartbeat, self.heard.message()).await;
            let Ok(next) = next else { continue };
            let next = next?.context("the coordinator ended the session")?;
            match next.message.context("an empty message")? {
                Told::ProbeStore(probe) => {
                    let (url, path) = (&probe.url, &probe.path);
                    let checked =
                        store_url::check_probe(url, path, &probe.content, &probe.reply_path).await;
                    let error = checked.err().map(|e| e.to_string()).unwrap_or_default();
                    let (url, path) = (probe.url, probe.path);
                    let probed = StoreProbed { url, path, error };
                    self.said.send(message(Say::StoreProbed(probed))).await?;
                }
                other => return Ok(other),
            }
        }
    }

    async fn beat(&mut self) -> Result<()> {
        if self.last_heartbeat.elapsed() >= self.heartbeat {
            self.last_heartbeat = Instant::now();
            let uptime_ms = self.began.elapsed().as_millis().try_into()?;
            let beat = message(Say::Heartbeat(Heartbeat {
                uptime_ms,
                ..Heartbeat::default()
            }));
            self.said.send(beat).await?;
        }
        Ok(())
    }

    async fn assignments(&mut self, many: usize) -> Result<Vec<Assignment>> {
        let mut all = Vec::with_capacity(many);
        while all.len() < many {
            if let Told::Assignment(assignment) = self.hear().await? {
                all.push(assignment);
            }
        }
        Ok(all)
    }

    /// Sends one message; gives the number that acknowledges it.
    async fn report<'a>(
        &mut self,
        bodies: impl Iterator<Item = (&'a Assignment, Body)>,
    ) -> Result<u64> {
        let reports = bodies
            .map(|(of, body)| {
                self.sequence += 1;
                Report {
                    sequence: self.sequence,
                    job_id: of.job_id.clone(),
                    trial_id: of.trial_id,
                    attempt: of.attempt,
                    generation: of.generation,
                    rank: of.rank,
                    time_ms: self.sequence,
                    body: Some(body),
                }
            })
            .collect();
        let reports = message(Say::Reports(ReportBatch { reports }));
        self.said.send(reports).await?;
        Ok(self.sequence)
    }

    async fn acknowledged(&mut self) -> Result<u64> {
        loop {
            match self.hear().await? {
                Told::Acknowledged(acknowledged) => return Ok(acknowledged.sequence),
                Told::Assignment(_) => {}
                other => bail!("expected an acknowledgement, got {other:?}"),
            }
        }
    }

    async fn until_acknowledged(&mut self, sequence: u64) -> Result<()> {
        while self.acknowledged().await? < sequence {}
        Ok(())
    }
}

fn message(say: Say) -> WorkerMessage {
    WorkerMessage { message: Some(say) }
}

/// A job whose trials all run at once.
async fn submit(address: &str, trials: usize) -> Result<()> {
    let spec = format!(
        "name: report-speed
entrypoint: {{command: [\"true\"]}}
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
objectives: [{{metric: loss, mode: minimize}}]
searcher: {{name: random, max_trials: {trials}}}
"
    );
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let request = SubmitJobRequest {
        request_id: format!("report-speed-{}", std::process::id()),
        spec,
    };
    JobServiceClient::new(channel).submit_job(request).await?;
    Ok(())
}

/// The `n`th result: the end of an epoch, each a little better than the one before.
fn result(n: usize) -> Body {
    let metric = |name: &str, value| Metric {
        name: name.to_owned(),
        value,
    };
    let n = n as u64 + 1;
    Body::Progress(Progress {
        step: n,
        epoch: n,
        metrics: vec![
            metric("loss", 1.0 / n as f64),
            metric("accuracy", 1.0 - 1.0 / n as f64),
        ],
        end_of_epoch: true,
        ..Progress::default()
    })
}

/// Reports everything; gives the seconds from the first to the last acknowledgement and how long each
/// message waited for its own.
async fn flood(
    session: &mut Session,
    of: &[Assignment],
    arguments: &Arguments,
) -> Result<(f64, Vec<Duration>)> {
    let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut waited = Vec::with_capacity(arguments.results / arguments.batch + 1);
    let mut sent = 0;
    let began = Instant::now();
    while sent < arguments.results || !waiting.is_empty() {
        session.beat().await?;
        if sent < arguments.results && waiting.len() < arguments.window {
            let now = Instant::now();
            let end = arguments.results.min(sent + arguments.batch);
            let bodies = (sent..end).map(|i| (&of[i % of.len()], result(i / of.len())));
            waiting.push_back((session.report(bodies).await?, now));
            sent = end;
            continue;
        }
        let acknowledged = session.acknowledged().await?;
        while let Some((sequence, since)) = waiting.front()
            && *sequence <= acknowledged
        {
            waited.push(since.elapsed());
            waiting.pop_front();
        }
    }
    Ok((began.elapsed().as_secs_f64(), waited))
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.window > 0 && arguments.trials > 0 && arguments.results > 0);
    ensure!((1..=MAX_REPORTS_PER_BATCH).contains(&arguments.batch));
    let mut session = Session::open(&arguments.coordinator, arguments.trials).await?;
    submit(&arguments.coordinator, arguments.trials).await?;
    let of = session.assignments(arguments.trials).await?;
    let started = of.iter().map(|of| (of, Body::Started(Started::default())));
    let last = session.report(started).await?;
    session.until_acknowledged(last).await?;

    let (seconds, mut waited) = flood(&mut session, &of, &arguments).await?;

    let ended = Ended {
        outcome: AttemptOutcome::Completed.into(),
        ..Ended::default()
    };
    let ends = of.iter().map(|of| (of, Body::Ended(ended.clone())));
    let last = session.report(ends).await?;
    session.until_acknowledged(last).await?;
    waited.sort_unstable();
    let at = |share: f64| {
        let index = (waited.len() as f64 * share) as usize;
        waited[index.min(waited.len() - 1)].as_secs_f64() * 1e3
    };
    println!(
        "{}",
        serde_json::json!({
            "results": arguments.results,
            "seconds": seconds,
            "results_per_s": arguments.results as f64 / seconds,
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
        })
    );
    Ok(())
}
