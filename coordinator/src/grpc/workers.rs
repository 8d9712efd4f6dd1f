//! `WorkerService`: one session a worker. Messages become events in the order in which they came, and only
//! within the limits of `limits`.
//!
//! A message that is malformed as a whole ends the session. What one report says never does: its worker would
//! keep it, come back and tell it again for ever, and all that lies behind it would wait. Such a report is
//! acknowledged and fails its attempt.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument, info_span};
use trainyard_common::ids::{AttemptId, Generation, JobId, Term, TrialId, WorkerId};
use trainyard_common::text::within;
use trainyard_proto::MAX_REPORTS_PER_BATCH;
use trainyard_proto::v1::worker_message::Message;
use trainyard_proto::v1::worker_service_server::WorkerService;
use trainyard_proto::v1::{self, CoordinatorMessage, WorkerMessage};

use super::limits::{self, MAX_SLOTS, Refused};
use super::status::{ApiError, call_status, status};
use super::{convert, outgoing};
use crate::cluster::api::{Event, LogText, Point, Report, ReportBody};
use crate::cluster::model::{
    AttemptRef, Metrics, Outcome, Pulse, RankRef, SecretDigest, SessionId, WorkerInfo,
};
use crate::driver::series::MAX_LINE_BYTES;
use crate::driver::{CallError, DriverHandle, OutboxReader, Seat, SessionEnd};
use trainyard_common::checkpoint::CheckpointRef;

/// A stream must say who it is within this long.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// The level of a log line that tells none that can be shown.
const LEVEL: &str = "info";

/// Bytes of a worker's secret: not to be guessed, and no more than any secret needs.
const SECRET_BYTES: RangeInclusive<usize> = 16..=64;

/// The service.
pub(super) struct Workers {
    seat: Seat,
    tasks: TaskTracker,
}

impl Workers {
    pub(super) fn new(seat: Seat, tasks: TaskTracker) -> Self {
        Self { seat, tasks }
    }

    async fn open(
        driver: &DriverHandle,
        incoming: &mut Streaming<WorkerMessage>,
        peer: Option<IpAddr>,
    ) -> Result<(WorkerId, SessionId, OutboxReader), Status> {
        let first = tokio::time::timeout(REGISTER_TIMEOUT, incoming.message());
        let first = tokio::select! {
            () = driver.closing().cancelled() => return Err(call_status(&CallError::Stopped)),
            first = first => first,
        };
        let first = first.map_err(|_| {
            let waited = REGISTER_TIMEOUT.as_secs();
            Status::deadline_exceeded(format!("no Register within {waited} s"))
        })??;
        let Some(Message::Register(mut register)) = first.and_then(|first| first.message) else {
            let text = "the first message of a session must be Register";
            return Err(Status::failed_precondition(text));
        };
        let term = Term(register.term);
        let secret = secret(std::mem::take(&mut register.secret))?;
        let (info, running) = registration(register)?;
        let worker = info.worker.clone();
        let joined = driver.join(info, secret, peer, running, term).await;
        let (session, reader) = joined.map_err(ApiError::from)?;
        Ok((worker, session, reader))
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type SessionStream =
        Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send + 'static>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.remote_addr().map(|peer| peer.ip());
        let mut incoming = request.into_inner();
        let driver = self.seat.handle().await;
        let driver = driver.map_err(|error| call_status(&error))?;
        let (worker, session, mut reader) = Self::open(&driver, &mut incoming, peer).await?;
        let end = reader.session_end();
        let span = info_span!("session", worker_id = %worker, session = session.0);
        let listener = Listener {
            driver: driver.clone(),
            worker,
            session,
        };
        self.tasks
            .spawn(listener.run(incoming, end.clone()).instrument(span));
        let term = driver.term();
        let on_drop = EndOnDrop(end);
        let stream = async_stream::stream! {
            let _on_drop = on_drop;
            while let Some(next) = reader.next().await {
                let message = match next {
                    // Queued before this coordinator stood still, perhaps: not its to say any more.
                    Ok(_) if !driver.holds() => Err(call_status(&CallError::Stopped)),
                    Ok(outgoing) => outgoing::message(term, outgoing).map_err(|error| status(&error)),
                    Err(reason) => Err(call_status(&reason)),
                };
                let last = message.is_err();
                yield message;
                if last {
                    break;
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}

/// The worker's connection broke when the stream to it is dropped: the listener must know.
struct EndOnDrop(SessionEnd);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(CallError::Disconnected);
    }
}

/// Reads one worker's messages until either side ends the session.
struct Listener {
    driver: DriverHandle,
    worker: WorkerId,
    session: SessionId,
}

impl Listener {
    async fn run(self, mut incoming: Streaming<WorkerMessage>, end: SessionEnd) {
        tracing::info!("worker joined");
        let why = tokio::select! {
            reason = end.ended() => reason.to_string(),
            () = self.driver.closing().cancelled() => {
                end.end(CallError::Stopped);
                CallError::Stopped.to_string()
            }
            result = self.listen(&mut incoming) => match result {
                Ok(()) => "the worker closed it".to_owned(),
                Err(error) => {
                    let text = error.to_string();
                    end.end(error);
                    text
                }
            },
        };
        tracing::info!(why, "session ended");
        let session = self.session;
        // Refused only when the loop has ended: then nobody needs to know.
        let _ = self
            .driver
            .tell(session, Event::WorkerLost { session })
            .await;
        // Without this the stream to the worker would wait for messages that nobody sends.
        end.end(CallError::Disconnected);
    }

    async fn beat(&self, beat: v1::Heartbeat) -> Result<(), CallError> {
        let session = self.session;
        let pulses = pulses(beat.pulses)?;
        self.driver
            .tell(session, Event::Heartbeat { session })
            .await?;
        if pulses.is_empty() {
            return Ok(());
        }
        let event = Event::Pulses { session, pulses };
        self.driver.tell(session, event).await
    }

    async fn listen(&self, incoming: &mut Streaming<WorkerMessage>) -> Result<(), CallError> {
        loop {
            let next = incoming.message().await;
            let next = next.map_err(|status| unreadable(&status))?;
            let Some(message) = next else {
                return Ok(());
            };
            let session = self.session;
            let event = match message.message {
                Some(Message::Heartbeat(beat)) => {
                    self.beat(beat).await?;
                    continue;
                }
                Some(Message::Leaving(_)) => Event::Leaving { session },
                Some(Message::Reports(batch)) => Event::Reports {
                    session,
                    reports: reports(batch)?,
                },
                Some(Message::Logs(batch)) => log_event(session, batch)?,
                Some(Message::StoreProbed(answer)) => {
                    let worker = self.worker.clone();
                    let path = limits::name("path", answer.path, limits::MAX_PATH)?;
                    let error = within(answer.error, limits::MAX_ERROR_BYTES);
                    self.driver.probed(worker, path, error).await?;
                    continue;
                }
                Some(Message::Register(_)) => {
                    let text = "a session has one Register, its first message";
                    return Err(CallError::Malformed(text.to_owned()));
                }
                // A message of a newer worker that this coordinator does not know.
                None => continue,
            };
            self.driver.tell(session, event).await?;
        }
    }
}

/// Why there is no message, where the stream did not end.
fn unreadable(status: &Status) -> CallError {
    let text = status.message().to_owned();
    match status.code() {
        Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => {
            CallError::NotReceived(text)
        }
        _ => CallError::Malformed(status.to_string()),
    }
}

/// What a heartbeat says of running ranks. Beyond the most slots of a worker nothing is read.
fn pulses(pulses: Vec<v1::Pulse>) -> Result<Vec<Pulse>, Refused> {
    let known = pulses.into_iter().take(MAX_SLOTS).filter_map(|pulse| {
        let of = pulse.attempt?;
        let (step, signs) = (pulse.step, pulse.signs);
        // A program numbers its steps as it likes, and they are a sign of life here.
        let step = limits::shown(step);
        Some(running(of).map(|rank| Pulse { rank, step, signs }))
    });
    let known: Result<_, Refused> = known.collect();
    known.map_err(|refused| refused.within("pulses"))
}

/// The digest of a worker's secret: of the secret itself nothing is kept.
fn secret(given: Vec<u8>) -> Result<Option<SecretDigest>, ApiError> {
    match given.len() {
        // A worker of before there were secrets.
        0 => Ok(None),
        len if SECRET_BYTES.contains(&len) => Ok(Some(SecretDigest::of(&given))),
        len => Err(ApiError::field(
            "secret",
            format!("{len} bytes"),
            format!("{} to {} bytes", SECRET_BYTES.start(), SECRET_BYTES.end()),
        )),
    }
}

fn registration(register: v1::Register) -> Result<(WorkerInfo, Vec<RankRef>), ApiError> {
    convert::identifier("worker_id", &register.worker_id)?;
    if register.devices.is_empty() {
        let accepted = format!("1 to {MAX_SLOTS}");
        return Err(ApiError::field("devices", "0 devices", accepted));
    }
    limits::count("devices", register.devices.len(), MAX_SLOTS)?;
    limits::count("running", register.running.len(), MAX_SLOTS)?;
    let devices = register.devices.into_iter();
    let devices = devices.map(|device| limits::name("devices", device, limits::MAX_DEVICE));
    let address = register.collective_address;
    let info = WorkerInfo {
        worker: WorkerId(register.worker_id),
        host: limits::name("host", register.host, limits::MAX_HOST)?,
        version: limits::name("version", register.version, limits::MAX_VERSION)?,
        devices: devices.collect::<Result<_, _>>()?,
        collective_address: limits::name("collective_address", address, limits::MAX_ADDRESS)?,
        cpu_kind: limits::name("cpu_kind", register.cpu_kind, limits::MAX_CPU_KIND)?,
        programs: register.programs.unwrap_or(true),
    };
    let named: Result<_, Refused> = register.running.into_iter().map(running).collect();
    Ok((info, named.map_err(|refused| refused.within("running"))?))
}

fn running(running: v1::RunningAttempt) -> Result<RankRef, Refused> {
    let (job, trial, number) = (running.job_id, running.trial_id, running.attempt);
    Ok(RankRef {
        at: attempt(job, trial, number, running.generation)?,
        rank: running.rank,
    })
}

fn attempt(job: String, trial: u32, attempt: u32, generation: u64) -> Result<AttemptRef, Refused> {
    Ok(AttemptRef {
        job: JobId(limits::id("job_id", job)?),
        trial: TrialId(trial),
        attempt: AttemptId(attempt),
        generation: Generation(generation),
    })
}

fn log_event(session: SessionId, batch: v1::LogBatch) -> Result<Event, Refused> {
    limits::count("lines", batch.lines.len(), limits::MAX_LINES_PER_BATCH)?;
    let at = attempt(batch.job_id, batch.trial_id, batch.attempt, 0)?;
    let lines = batch.lines.into_iter().map(|line| {
        LogText {
            time_ms: limits::shown(line.time_ms),
            // A level that cannot be shown is no reason to lose the line, or all that come after it.
            level: limits::name("level", line.level, limits::MAX_LEVEL)
                .unwrap_or_else(|_| LEVEL.to_owned()),
            text: within(line.text, MAX_LINE_BYTES),
        }
    });
    Ok(Event::Logs {
        session,
        rank: RankRef {
            at,
            rank: batch.rank,
        },
        first: limits::number("first", batch.first)?,
        lines: lines.collect(),
    })
}

fn reports(batch: v1::ReportBatch) -> Result<Vec<Report>, CallError> {
    limits::count("reports", batch.reports.len(), MAX_REPORTS_PER_BATCH)?;
    let reports = batch.reports.into_iter().map(|given| {
        let sequence = given.sequence;
        report(given).map_err(|refused| refused.within(&format!("report {sequence}")))
    });
    Ok(reports.collect::<Result<_, Refused>>()?)
}

fn report(report: v1::Report) -> Result<Report, Refused> {
    let sequence = limits::number("sequence", report.sequence)?;
    let time_ms = limits::shown(report.time_ms);
    let body = match report.body {
        Some(body) => report_body(body, time_ms).unwrap_or_else(|refused| {
            let reason = format!("a report was refused: {refused}");
            tracing::warn!(
                sequence,
                job_id = report.job_id,
                trial_id = report.trial_id,
                "{reason}"
            );
            ReportBody::Refused { reason }
        }),
        // A newer worker's. Ending the session for it would have it come back for ever.
        None => {
            tracing::warn!(
                sequence,
                "a report of a kind that this version does not know is skipped"
            );
            ReportBody::Dropped {
                manifests: Vec::new(),
            }
        }
    };
    let (job, trial, number) = (report.job_id, report.trial_id, report.attempt);
    Ok(Report {
        sequence,
        rank: RankRef {
            at: attempt(job, trial, number, report.generation)?,
            rank: report.rank,
        },
        time_ms,
        body,
    })
}

fn report_body(body: v1::report::Body, time_ms: u64) -> Result<ReportBody, Refused> {
    use v1::report::Body;
    Ok(match body {
        Body::Started(started) => ReportBody::Started {
            from_step: limits::shown(started.from_step),
            steps_total: limits::shown(started.steps_total),
            epochs_total: limits::shown(started.epochs_total),
            parameters: limits::shown(started.parameters),
        },
        Body::Progress(progress) => ReportBody::Progress(Point {
            step: limits::number("step", progress.step)?,
            epoch: limits::number("epoch", progress.epoch)?,
            metrics: metrics("metrics", progress.metrics)?,
            end_of_epoch: progress.end_of_epoch,
            epochs_from_zero: progress.epochs_from_zero,
            time_ms,
        }),
        // Named by nobody it is no checkpoint, and the empty name is none either.
        Body::Checkpoint(saved) => {
            ReportBody::Checkpoint(checkpoint(saved.checkpoint.unwrap_or_default())?)
        }
        Body::Dropped(dropped) => {
            limits::count("manifests", dropped.manifests.len(), limits::MAX_MANIFESTS)?;
            let manifests = dropped.manifests.into_iter();
            let manifests = manifests.map(|path| limits::name("manifests", path, limits::MAX_PATH));
            ReportBody::Dropped {
                manifests: manifests.collect::<Result<_, _>>()?,
            }
        }
        Body::Ended(ended) => return Ok(last(ended)),
    })
}

/// A rank's last report, which is taken in any case: its slot is free.
fn last(ended: v1::Ended) -> ReportBody {
    let (outcome, error) = match convert::from_outcome(ended.outcome()) {
        Some(outcome) => (outcome, ended.error),
        None => (
            Outcome::Error,
            format!("{} (outcome {} is unknown)", ended.error, ended.outcome),
        ),
    };
    let (outcome, error, test_metrics) = match metrics("test_metrics", ended.test_metrics) {
        Ok(metrics) => (outcome, error, metrics),
        Err(refused) => {
            let told = format!("its last report was refused: {refused}");
            (Outcome::Error, told, Metrics::new())
        }
    };
    ReportBody::Ended {
        outcome,
        error: within(error, limits::MAX_ERROR_BYTES),
        step: limits::shown(ended.step),
        test_metrics,
    }
}

fn metrics(field: &str, metrics: Vec<v1::Metric>) -> Result<Metrics, Refused> {
    limits::count(field, metrics.len(), limits::MAX_METRICS)?;
    let metrics = metrics.into_iter().map(|metric| {
        let name = limits::name("name", metric.name, limits::MAX_METRIC_NAME);
        Ok((name.map_err(|refused| refused.within(field))?, metric.value))
    });
    metrics.collect()
}

fn checkpoint(given: v1::CheckpointRef) -> Result<CheckpointRef, Refused> {
    let checked = || {
        if given.manifest.is_empty() {
            return Err(Refused::empty("manifest"));
        }
        Ok(CheckpointRef {
            manifest: limits::name("manifest", given.manifest, limits::MAX_PATH)?,
            step: limits::number("step", given.step)?,
            epoch: limits::number("epoch", given.epoch)?,
            bytes: limits::number("bytes", given.bytes)?,
            digest: limits::name("digest", given.digest, limits::MAX_DIGEST)?,
            metrics: metrics("metrics", given.metrics)?,
        })
    };
    checked().map_err(|refused: Refused| refused.within("checkpoint"))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
