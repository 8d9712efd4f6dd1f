//! One conversation with a coordinator, from registering to the loss of the connection.
//!
//! It owns nothing that outlives it: attempts and their reports are in the shared [`Agent`] parts.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use trainyard_common::ids::Term;
use trainyard_proto::v1::coordinator_message::Message as Told;
use trainyard_proto::v1::worker_message::Message as Say;
use trainyard_proto::v1::worker_service_client::WorkerServiceClient;
use trainyard_proto::v1::{
    CoordinatorMessage, Heartbeat, Leaving, Registered, ReportBatch, StoreProbed, WorkerMessage,
};
use trainyard_proto::{LEADER_METADATA, MAX_MESSAGE_BYTES};

use super::{Agent, probe};

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to Register may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(20);
/// A ping this often on an otherwise silent connection; unanswered as long, it counts as lost.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// A connection that has ended may have been dead for so long: a ping's interval and its deadline.
pub(super) const UNNOTICED: Duration = KEEPALIVE.saturating_mul(2);
/// Messages handed to the connection but not yet written.
const OUTGOING: usize = 8;
/// Stores probed at once; one more is refused.
const MAX_PROBES: usize = 32;
/// How long the coordinator may take to end its side when the worker leaves.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a conversation is over.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The worker has left in order.
    Closed,
    /// The connection or the coordinator is gone, or was not the right one: try again.
    Lost {
        reason: String,
        /// The one that leads, where a coordinator has named it.
        leader: Option<String>,
    },
    /// Trying again cannot help.
    Refused(String),
}

impl SessionEnd {
    fn of(status: &Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Self::Refused(text),
            _ => Self::Lost {
                reason: text,
                leader: leader_of(status),
            },
        }
    }

    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
            leader: None,
        }
    }
}

/// Whom a coordinator that does not lead names as the leader.
fn leader_of(status: &Status) -> Option<String> {
    let named = status.metadata().get(LEADER_METADATA)?;
    Some(named.to_str().ok()?.to_owned())
}

/// A session that the coordinator has taken in.
pub(super) struct Session {
    outgoing: mpsc::Sender<WorkerMessage>,
    incoming: Streaming<CoordinatorMessage>,
    pub(super) registered: Registered,
}

/// Connects to one coordinator and registers.
pub(super) async fn open(agent: &Agent, address: &str) -> Result<Session, SessionEnd> {
    let endpoint = crate::config::endpoint_of(address)
        .map_err(|error| SessionEnd::Refused(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| SessionEnd::lost(with_causes(&error)))?;
    tokio::time::timeout(REGISTER_TIMEOUT, register(agent, channel))
        .await
        .unwrap_or_else(|_| Err(SessionEnd::lost("no answer to the registration")))
}

async fn register(agent: &Agent, channel: Channel) -> Result<Session, SessionEnd> {
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let lost = |_| SessionEnd::lost("the connection closed at once");
    outgoing
        .send(say(Say::Register(agent.register())))
        .await
        .map_err(lost)?;
    let mut incoming = WorkerServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
        .session(ReceiverStream::new(messages))
        .await
        .map_err(|status| SessionEnd::of(&status))?
        .into_inner();
    let first = incoming
        .message()
        .await
        .map_err(|status| SessionEnd::of(&status))?;
    let first = first.ok_or_else(|| SessionEnd::lost("the coordinator ended the session"))?;
    obey(agent, first.term)?;
    let Some(Told::Registered(registered)) = first.message else {
        return Err(SessionEnd::lost("the first message was not `Registered`"));
    };
    // Before anything else is said or acknowledged: what is abandoned must not act any more.
    agent.attempts.abandon(&registered.abandon);
    agent.outbox.reconnected();
    Ok(Session {
        outgoing,
        incoming,
        registered,
    })
}

/// Takes note of a term; an older one than seen before is refused.
fn obey(agent: &Agent, term: u64) -> Result<(), SessionEnd> {
    let seen = agent.raise_term(Term(term));
    if seen > Term(term) {
        return Err(SessionEnd::lost(format!(
            "the coordinator's term {term} is older than {seen}, which this worker has seen: another leads by now"
        )));
    }
    Ok(())
}

/// What there is to say besides reports and log lines.
#[derive(Default)]
struct Pending {
    heartbeat: bool,
    leaving: bool,
    probed: VecDeque<StoreProbed>,
    /// Whether log lines were sent last: reports are next, so that neither holds the other up. After a
    /// pause the lines go first, since the end of an attempt comes after its lines.
    logs_last: bool,
}

impl Pending {
    fn any(&self, agent: &Agent) -> bool {
        self.heartbeat || self.leaving || !self.probed.is_empty() || agent.outbox.is_due()
    }

    fn next(&mut self, agent: &Agent) -> Option<Say> {
        if std::mem::take(&mut self.heartbeat) {
            let uptime_ms = agent.started.elapsed().as_millis() as u64;
            let pulses = agent.attempts.pulses();
            return Some(Say::Heartbeat(Heartbeat { uptime_ms, pulses }));
        }
        if std::mem::take(&mut self.leaving) {
            return Some(Say::Leaving(Leaving {}));
        }
        if let Some(probed) = self.probed.pop_front() {
            return Some(Say::StoreProbed(probed));
        }
        if self.logs_last {
            self.logs_last = false;
            let reports = reports(agent);
            return reports.or_else(|| agent.outbox.next_logs().map(Say::Logs));
        }
        let logs = agent.outbox.next_logs().map(Say::Logs);
        self.logs_last = logs.is_some();
        logs.or_else(|| reports(agent))
    }
}

fn reports(agent: &Agent) -> Option<Say> {
    let reports = agent.outbox.next_reports();
    (!reports.is_empty()).then_some(Say::Reports(ReportBatch { reports }))
}

impl Session {
    /// Talks until the connection is lost or the worker has left.
    pub(super) async fn run(mut self, agent: &Agent) -> SessionEnd {
        let interval = u64::from(self.registered.heartbeat_interval_ms.max(1));
        let mut heartbeat = tokio::time::interval(Duration::from_millis(interval));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probes = JoinSet::new();
        let mut pending = Pending::default();
        let mut told_leaving = false;
        loop {
            let any = pending.any(agent);
            pending.logs_last &= any;
            tokio::select! {
                message = self.incoming.message() => {
                    let heard = match message {
                        Ok(Some(message)) => hear(agent, message, &mut probes, &mut pending),
                        Ok(None) => Err(SessionEnd::lost("the coordinator ended the session")),
                        Err(status) => Err(SessionEnd::of(&status)),
                    };
                    if let Err(end) = heard {
                        return end;
                    }
                }
                permit = self.outgoing.reserve(), if any => match permit {
                    Ok(permit) => {
                        if let Some(next) = pending.next(agent) {
                            permit.send(say(next));
                        }
                    }
                    Err(_) => return SessionEnd::lost("the connection closed"),
                },
                _ = heartbeat.tick() => {
                    agent.pulse.beat();
                    pending.heartbeat = true;
                }
                Some(probed) = probes.join_next(), if !probes.is_empty() => {
                    pending.probed.extend(probed.ok());
                }
                () = agent.shutdown.cancelled(), if !told_leaving => {
                    told_leaving = true;
                    pending.leaving = true;
                }
                () = agent.outbox.work(), if !any => {}
                () = agent.closing.cancelled() => break,
            }
        }
        self.close().await
    }

    /// Ends this side of the stream and waits for the other, so that all that was said arrives.
    async fn close(mut self) -> SessionEnd {
        drop(self.outgoing);
        let rest = async { while let Ok(Some(_)) = self.incoming.message().await {} };
        // The coordinator has acknowledged every report: nothing depends on its answer.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
        SessionEnd::Closed
    }
}

/// Does what a message asks for.
fn hear(
    agent: &Agent,
    message: CoordinatorMessage,
    probes: &mut JoinSet<StoreProbed>,
    pending: &mut Pending,
) -> Result<(), SessionEnd> {
    obey(agent, message.term)?;
    match message.message {
        Some(Told::Acknowledged(acknowledged)) => {
            let (reports, lines) = (acknowledged.sequence, acknowledged.lines);
            agent.outbox.acknowledge(reports, lines);
        }
        Some(Told::Assignment(assignment)) => agent.attempts.start(assignment),
        Some(Told::Stop(stop)) => agent.attempts.stop(&stop),
        Some(Told::ProbeStore(request)) if probes.len() < MAX_PROBES => {
            probes.spawn(probe::answer(request, agent.host.clone()));
        }
        Some(Told::ProbeStore(request)) => pending.probed.push_back(StoreProbed {
            url: request.url,
            path: request.path,
            error: format!("the worker probes {MAX_PROBES} stores already; ask again"),
        }),
        Some(Told::Registered(_)) | None => {
            tracing::debug!("the coordinator sent a message that is not known here");
        }
    }
    Ok(())
}

fn say(message: Say) -> WorkerMessage {
    WorkerMessage {
        message: Some(message),
    }
}

/// An error with its causes: tonic's own text is only "transport error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
