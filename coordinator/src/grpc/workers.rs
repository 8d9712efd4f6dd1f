//! `WorkerService`: one session a worker. Messages become events in the order in which they came.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, info_span};
use trainyard_common::ids::{AttemptId, Generation, JobId, Term, TrialId, WorkerId};
use trainyard_proto::MAX_REPORTS_PER_BATCH;
use trainyard_proto::v1::worker_message::Message;
use trainyard_proto::v1::worker_service_server::WorkerService;
use trainyard_proto::v1::{self, CoordinatorMessage, WorkerMessage};

use super::status::{ApiError, call_status, status};
use super::{convert, outgoing};
use crate::cluster::api::{Event, LogText, Point, Report, ReportBody};
use crate::cluster::model::{AttemptRef, Outcome, Pulse, RankRef, SessionId, WorkerInfo};
use crate::driver::{CallError, DriverHandle, OutboxReader, Seat, SessionEnd};

/// A stream must say who it is within this long.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// The most slots of one worker, and the most attempts that it says it runs.
const MAX_SLOTS: usize = 1024;

/// The most log lines in one batch.
const MAX_LINES_PER_BATCH: usize = 4096;

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
        let Some(Message::Register(register)) = first.and_then(|first| first.message) else {
            let text = "the first message of a session must be Register";
            return Err(Status::failed_precondition(text));
        };
        let term = Term(register.term);
        let (info, running) = registration(register)?;
        let worker = info.worker.clone();
        let joined = driver.join(info, running, term).await;
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
        let mut incoming = request.into_inner();
        let driver = self.seat.handle().await;
        let driver = driver.map_err(|error| call_status(&error))?;
        let (worker, session, mut reader) = Self::open(&driver, &mut incoming).await?;
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
        let pulses = pulses(beat.pulses);
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
            let next = next.map_err(|status| CallError::Malformed(status.to_string()))?;
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
                    reports: reports(batch).map_err(CallError::Malformed)?,
                },
                Some(Message::Logs(batch)) => log_event(session, batch)?,
                Some(Message::StoreProbed(answer)) => {
                    let worker = self.worker.clone();
                    self.driver
                        .probed(worker, answer.path, answer.error)
                        .await?;
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

/// What a heartbeat says of running ranks. Beyond the most slots of a worker nothing is read.
fn pulses(pulses: Vec<v1::Pulse>) -> Vec<Pulse> {
    let known = pulses.into_iter().take(MAX_SLOTS).filter_map(|pulse| {
        let running = pulse.attempt?;
        Some(Pulse {
            rank: RankRef {
                at: attempt(
                    running.job_id,
                    running.trial_id,
                    running.attempt,
                    running.generation,
                ),
                rank: running.rank,
            },
            step: pulse.step,
            signs: pulse.signs,
        })
    });
    known.collect()
}

fn registration(register: v1::Register) -> Result<(WorkerInfo, Vec<RankRef>), ApiError> {
    convert::identifier("worker_id", &register.worker_id)?;
    if register.devices.is_empty() || register.devices.len() > MAX_SLOTS {
        return Err(ApiError::field(
            "devices",
            format!("{} devices", register.devices.len()),
            format!("1 to {MAX_SLOTS}"),
        ));
    }
    if register.running.len() > MAX_SLOTS {
        return Err(ApiError::field(
            "running",
            format!("{} attempts", register.running.len()),
            format!("at most {MAX_SLOTS}"),
        ));
    }
    let info = WorkerInfo {
        worker: WorkerId(register.worker_id),
        host: register.host,
        version: register.version,
        devices: register.devices,
        collective_address: register.collective_address,
        cpu_kind: register.cpu_kind,
    };
    let running = register.running.into_iter().map(|running| RankRef {
        at: attempt(
            running.job_id,
            running.trial_id,
            running.attempt,
            running.generation,
        ),
        rank: running.rank,
    });
    Ok((info, running.collect()))
}

fn attempt(job: String, trial: u32, attempt: u32, generation: u64) -> AttemptRef {
    AttemptRef {
        job: JobId(job),
        trial: TrialId(trial),
        attempt: AttemptId(attempt),
        generation: Generation(generation),
    }
}

fn log_event(session: SessionId, batch: v1::LogBatch) -> Result<Event, CallError> {
    if batch.lines.len() > MAX_LINES_PER_BATCH {
        return Err(CallError::Malformed(format!(
            "a batch has {} log lines; expected at most {MAX_LINES_PER_BATCH}",
            batch.lines.len()
        )));
    }
    let at = attempt(batch.job_id, batch.trial_id, batch.attempt, 0);
    let lines = batch.lines.into_iter().map(|line| LogText {
        time_ms: line.time_ms,
        level: line.level,
        text: line.text,
    });
    Ok(Event::Logs {
        session,
        rank: RankRef {
            at,
            rank: batch.rank,
        },
        first: batch.first,
        lines: lines.collect(),
    })
}

fn reports(batch: v1::ReportBatch) -> Result<Vec<Report>, String> {
    if batch.reports.len() > MAX_REPORTS_PER_BATCH {
        return Err(format!(
            "a batch has {} reports; expected at most {MAX_REPORTS_PER_BATCH}",
            batch.reports.len()
        ));
    }
    batch.reports.into_iter().map(report).collect()
}

fn report(report: v1::Report) -> Result<Report, String> {
    let sequence = report.sequence;
    let time_ms = report.time_ms;
    let body = match report.body {
        Some(body) => {
            report_body(body, time_ms).map_err(|what| format!("report {sequence}: {what}"))?
        }
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
    Ok(Report {
        sequence,
        rank: RankRef {
            at: attempt(
                report.job_id,
                report.trial_id,
                report.attempt,
                report.generation,
            ),
            rank: report.rank,
        },
        time_ms,
        body,
    })
}

fn report_body(body: v1::report::Body, time_ms: u64) -> Result<ReportBody, String> {
    use v1::report::Body;
    Ok(match body {
        Body::Started(started) => ReportBody::Started {
            from_step: started.from_step,
            steps_total: started.steps_total,
            epochs_total: started.epochs_total,
            parameters: started.parameters,
        },
        Body::Progress(progress) => ReportBody::Progress(Point {
            step: progress.step,
            epoch: progress.epoch,
            metrics: convert::from_metrics(progress.metrics),
            end_of_epoch: progress.end_of_epoch,
            time_ms,
        }),
        Body::Checkpoint(saved) => ReportBody::Checkpoint(
            saved
                .checkpoint
                .map(convert::from_checkpoint)
                .ok_or("a saved checkpoint is named")?,
        ),
        Body::Dropped(dropped) => ReportBody::Dropped {
            manifests: dropped.manifests,
        },
        Body::Ended(ended) => {
            let (outcome, error) = match convert::from_outcome(ended.outcome()) {
                Some(outcome) => (outcome, ended.error),
                None => (
                    Outcome::Error,
                    format!("{} (outcome {} is unknown)", ended.error, ended.outcome),
                ),
            };
            ReportBody::Ended {
                outcome,
                error,
                step: ended.step,
                test_metrics: convert::from_metrics(ended.test_metrics),
            }
        }
    })
}
