//! The conversation with a coordinator: connecting, asking, and asking again when a connection is
//! lost. Knows nothing of verbs or of how answers are shown.
//!
//! Everything here may be asked twice: reading changes nothing, and a mutating request carries an id
//! by which the coordinator recognises a repetition.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code as Grpc, Request, Status, Streaming};
use trainyard_proto::v1::job_service_client::JobServiceClient;
use trainyard_proto::{MAX_MESSAGE_BYTES, v1};
use uuid::Uuid;

use crate::cli::DEFAULT_COORDINATOR;
use crate::exit::{Failure, Outcome};
use crate::{convert, text};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one answer, or the beginning of a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent connection is asked for a sign of life this often, and dropped without one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often a lost connection is tried again, and how long is waited before: 0.25, 0.5, 1, 2, 2...
/// seconds, together about fifteen. A coordinator that restarts is back by then.
const RETRIES: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Jobs among which a near name is looked for.
const NEAR_JOBS: u32 = 1_000;

/// Waits between tries; refuses after [`RETRIES`].
#[derive(Debug, Default)]
pub(crate) struct Retry {
    tried: u32,
}

impl Retry {
    /// Whether a failure may be tried again, after a pause.
    async fn again(&mut self, status: &Status) -> bool {
        if !self.may(status) {
            return false;
        }
        tokio::time::sleep(self.pause()).await;
        self.tried += 1;
        true
    }

    fn may(&self, status: &Status) -> bool {
        lost(status) && self.tried < RETRIES
    }

    fn pause(&self) -> Duration {
        (FIRST_PAUSE * 2u32.pow(self.tried.min(8))).min(LONGEST_PAUSE)
    }
}

/// Whether it was the connection that failed, not the request.
fn lost(status: &Status) -> bool {
    // Unknown is what a connection that breaks in mid-answer looks like.
    matches!(status.code(), Grpc::Unavailable | Grpc::Unknown)
}

/// A coordinator's address as written, or its default, with a scheme.
pub(crate) fn normalize(address: &str) -> String {
    let address = address.trim();
    if address.is_empty() {
        DEFAULT_COORDINATOR.to_owned()
    } else if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    }
}

fn hold(job_id: &str, trial_id: Option<u32>) -> v1::HoldRequest {
    v1::HoldRequest {
        request_id: Uuid::new_v4().to_string(),
        job_id: job_id.to_owned(),
        trial_id,
    }
}

/// A connection to one coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    service: JobServiceClient<Channel>,
    address: String,
}

impl Client {
    /// Connects once; a wrong address is told within [`CONNECT_TIMEOUT`].
    pub(crate) async fn connect(address: &str) -> Outcome<Self> {
        let address = normalize(address);
        let endpoint = Endpoint::from_shared(address.clone())
            .ok()
            .filter(|endpoint| {
                let uri = endpoint.uri();
                uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
            })
            .ok_or_else(|| {
                Failure::usage(format!(
                    "--coordinator: `{address}` is no address; expected http://HOST:PORT or HOST:PORT"
                ))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        // The endpoint's own limit does not cover a peer that accepts and then says nothing.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(no_coordinator(&address, &root_cause(&error))),
            Err(_) => return Err(no_coordinator(&address, "no answer within 5 s")),
        };
        let service = JobServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { service, address })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Asks, and asks again with the same words while connections are lost.
    async fn ask<Q: Clone, A>(
        &self,
        question: Q,
        call: impl AsyncFn(JobServiceClient<Channel>, Request<Q>) -> Result<tonic::Response<A>, Status>,
    ) -> Outcome<A> {
        let mut retry = Retry::default();
        loop {
            match call(self.service.clone(), Request::new(question.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if retry.again(&status).await => {}
                Err(status) => return Err(Failure::from_status(&status, &self.address)),
            }
        }
    }

    /// The same about one job: an unknown one gets the near names of those that exist.
    async fn ask_of<Q: Clone, A>(
        &self,
        job_id: &str,
        question: Q,
        call: impl AsyncFn(JobServiceClient<Channel>, Request<Q>) -> Result<tonic::Response<A>, Status>,
    ) -> Outcome<A> {
        match self.ask(question, call).await {
            Err(failure) if failure.code == crate::exit::Code::NotFound => {
                Err(self.explain_missing(job_id, failure).await)
            }
            answer => answer,
        }
    }

    async fn explain_missing(&self, job_id: &str, failure: Failure) -> Failure {
        let Ok(jobs) = self.jobs("", NEAR_JOBS).await else {
            return failure;
        };
        let ids: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
        if ids.contains(&job_id) {
            return failure; // It is something within the job that does not exist.
        }
        Failure::not_found(missing_job(job_id, &ids))
    }

    pub(crate) async fn submit(&self, spec: String) -> Outcome<v1::SubmitJobResponse> {
        let question = v1::SubmitJobRequest {
            request_id: Uuid::new_v4().to_string(),
            spec,
        };
        self.ask(question, async |mut service, question| {
            service.submit_job(question).await
        })
        .await
    }

    pub(crate) async fn cancel(&self, job_id: &str) -> Outcome<v1::JobState> {
        let question = v1::CancelJobRequest {
            request_id: Uuid::new_v4().to_string(),
            job_id: job_id.to_owned(),
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.cancel_job(question).await
            })
            .await?;
        Ok(answer.state())
    }

    /// Pauses a job or one of its trials.
    pub(crate) async fn pause(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
    ) -> Outcome<v1::HoldResponse> {
        let question = hold(job_id, trial_id);
        self.ask_of(job_id, question, async |mut service, question| {
            service.pause(question).await
        })
        .await
    }

    /// Lets go on what was paused.
    pub(crate) async fn resume(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
    ) -> Outcome<v1::HoldResponse> {
        let question = hold(job_id, trial_id);
        self.ask_of(job_id, question, async |mut service, question| {
            service.resume(question).await
        })
        .await
    }

    /// The job and its resolved spec.
    pub(crate) async fn job(&self, job_id: &str) -> Outcome<(v1::JobSummary, String)> {
        let question = v1::GetJobRequest {
            job_id: job_id.to_owned(),
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.get_job(question).await
            })
            .await?;
        let job = answer.job.ok_or_else(|| self.incomplete("the job"))?;
        Ok((job, answer.spec_json))
    }

    /// Newest first; an empty workspace means all.
    pub(crate) async fn jobs(&self, workspace: &str, limit: u32) -> Outcome<Vec<v1::JobSummary>> {
        let question = v1::ListJobsRequest {
            workspace: workspace.to_owned(),
            limit,
        };
        let answer = self
            .ask(question, async |mut service, question| {
                service.list_jobs(question).await
            })
            .await?;
        Ok(answer.jobs)
    }

    /// In the order of suggestion.
    pub(crate) async fn trials(&self, job_id: &str) -> Outcome<Vec<v1::TrialSummary>> {
        let question = v1::ListTrialsRequest {
            job_id: job_id.to_owned(),
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.list_trials(question).await
            })
            .await?;
        Ok(answer.trials)
    }

    pub(crate) async fn trial(
        &self,
        job_id: &str,
        trial_id: u32,
    ) -> Outcome<(v1::TrialSummary, Vec<v1::MetricPoint>)> {
        let question = v1::GetTrialRequest {
            job_id: job_id.to_owned(),
            trial_id,
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.get_trial(question).await
            })
            .await?;
        let trial = answer.trial.ok_or_else(|| self.incomplete("the trial"))?;
        Ok((trial, answer.points))
    }

    /// What was decided about a trial, oldest first.
    pub(crate) async fn explain(&self, job_id: &str, trial_id: u32) -> Outcome<Vec<v1::Decision>> {
        let question = v1::ExplainTrialRequest {
            job_id: job_id.to_owned(),
            trial_id,
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.explain_trial(question).await
            })
            .await?;
        Ok(answer.decisions)
    }

    pub(crate) async fn checkpoints(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
    ) -> Outcome<v1::ListCheckpointsResponse> {
        let question = v1::ListCheckpointsRequest {
            job_id: job_id.to_owned(),
            trial_id,
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.list_checkpoints(question).await
        })
        .await
    }

    pub(crate) async fn workers(&self) -> Outcome<Vec<v1::WorkerSummary>> {
        let answer = self
            .ask(v1::ListWorkersRequest {}, async |mut service, question| {
                service.list_workers(question).await
            })
            .await?;
        Ok(answer.workers)
    }

    pub(crate) async fn watch(&self, job_id: &str) -> Outcome<Watch> {
        let mut watch = Watch {
            client: self.clone(),
            job_id: job_id.to_owned(),
            stream: None,
            retry: Retry::default(),
            ended: false,
        };
        watch.open().await?;
        Ok(watch)
    }

    async fn open_watch(&self, job_id: &str) -> Outcome<Streaming<v1::JobEvent>> {
        let question = v1::WatchJobRequest {
            job_id: job_id.to_owned(),
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.watch_job(question).await
        })
        .await
    }

    pub(crate) async fn logs(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
        follow: bool,
    ) -> Outcome<Streaming<v1::LogLine>> {
        // Always from the beginning: the reader leaves out what it has seen, trial by trial.
        let question = v1::StreamLogsRequest {
            job_id: job_id.to_owned(),
            trial_id,
            follow,
            after_sequence: 0,
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.stream_logs(question).await
        })
        .await
    }

    /// Whether what was streamed of a job (or of one trial) is over for good.
    pub(crate) async fn is_over(&self, job_id: &str, trial_id: Option<u32>) -> Outcome<bool> {
        match trial_id {
            Some(trial_id) => {
                let (trial, _) = self.trial(job_id, trial_id).await?;
                Ok(convert::trial_ended(trial.state()))
            }
            None => {
                let (job, _) = self.job(job_id).await?;
                Ok(convert::job_ended(job.state()))
            }
        }
    }

    fn incomplete(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "the coordinator at {} answered without {what}",
            self.address
        ))
    }
}

/// A job's events; goes on over lost connections, each time with a new snapshot.
#[derive(Debug)]
pub(crate) struct Watch {
    client: Client,
    job_id: String,
    stream: Option<Streaming<v1::JobEvent>>,
    retry: Retry,
    ended: bool,
}

impl Watch {
    async fn open(&mut self) -> Outcome {
        self.stream = Some(self.client.open_watch(&self.job_id).await?);
        Ok(())
    }

    /// The next event; `None` once the job has ended and everything was told.
    pub(crate) async fn next(&mut self) -> Outcome<Option<v1::job_event::Event>> {
        loop {
            if self.stream.is_none() {
                self.open().await?;
            }
            let Some(stream) = self.stream.as_mut() else {
                continue;
            };
            let status = match stream.message().await {
                Ok(Some(v1::JobEvent { event: Some(event) })) => {
                    self.retry = Retry::default();
                    if let v1::job_event::Event::Job(job) = &event {
                        self.ended = convert::job_ended(job.state());
                    }
                    return Ok(Some(event));
                }
                Ok(Some(v1::JobEvent { event: None })) => continue,
                Ok(None) | Err(_) if self.ended => return Ok(None),
                Ok(None) => Status::unavailable("the coordinator ended the stream"),
                Err(status) => status,
            };
            self.stream = None;
            if !self.retry.again(&status).await {
                return Err(Failure::from_status(&status, self.client.address()));
            }
        }
    }
}

/// A job's log lines, each once; with `follow`, over lost connections too.
#[derive(Debug)]
pub(crate) struct Logs {
    client: Client,
    job_id: String,
    trial_id: Option<u32>,
    follow: bool,
    stream: Option<Streaming<v1::LogLine>>,
    /// Last sequence told of each trial.
    told: std::collections::BTreeMap<u32, u64>,
    retry: Retry,
}

impl Logs {
    pub(crate) fn new(client: &Client, job_id: &str, trial_id: Option<u32>, follow: bool) -> Self {
        Self {
            client: client.clone(),
            job_id: job_id.to_owned(),
            trial_id,
            follow,
            stream: None,
            told: std::collections::BTreeMap::new(),
            retry: Retry::default(),
        }
    }

    /// The next line that was not told yet; `None` at the end.
    pub(crate) async fn next(&mut self) -> Outcome<Option<v1::LogLine>> {
        loop {
            let Some(stream) = self.stream.as_mut() else {
                let client = &self.client;
                let opened = client
                    .logs(&self.job_id, self.trial_id, self.follow)
                    .await?;
                self.stream = Some(opened);
                continue;
            };
            let status = match stream.message().await {
                Ok(Some(line)) => {
                    self.retry = Retry::default();
                    let told = self.told.entry(line.trial_id).or_default();
                    if line.sequence <= *told {
                        continue;
                    }
                    *told = line.sequence;
                    return Ok(Some(line));
                }
                Ok(None) if !self.follow => return Ok(None),
                // A coordinator that shuts down ends its streams too.
                Ok(None) if self.client.is_over(&self.job_id, self.trial_id).await? => {
                    return Ok(None);
                }
                Ok(None) => Status::unavailable("the coordinator ended the stream"),
                Err(status) => status,
            };
            self.stream = None;
            if !self.retry.again(&status).await {
                return Err(Failure::from_status(&status, self.client.address()));
            }
        }
    }
}

fn no_coordinator(address: &str, reason: &str) -> Failure {
    Failure::unreachable(format!(
        "no coordinator at {address} ({reason}); name another with --coordinator or \
         TRAINYARD_COORDINATOR, or look into what `run` left with --data-dir ./trainyard-data"
    ))
}

/// The innermost message of a chain of errors, where the reason stands.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Says that there is no such job, with the nearest id where one is near.
fn missing_job(job_id: &str, known: &[&str]) -> String {
    match text::near(job_id, known.iter().copied()) {
        Some(near) => format!("no job `{job_id}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("no job `{job_id}`: there are no jobs"),
        None => format!("no job `{job_id}`; `coordinatorctl list` shows the jobs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_lack_a_scheme() {
        assert_eq!(normalize("10.0.0.1:7070"), "http://10.0.0.1:7070");
        assert_eq!(normalize("http://h:1"), "http://h:1");
        assert_eq!(normalize(" "), DEFAULT_COORDINATOR);
    }

    #[test]
    fn an_unknown_job_gets_the_near_one() {
        let known = ["fashion-1", "digits-12", "digits-1"];
        let cases = [
            ("digit-1", "did you mean `digits-1`?"),
            ("digits", "did you mean `digits-12`?"),
            ("fasion-1", "did you mean `fashion-1`?"),
            ("wholly-other", "`coordinatorctl list` shows the jobs"),
        ];
        for (given, expected) in cases {
            let message = missing_job(given, &known);
            assert!(message.contains(expected), "{message}");
            assert!(
                message.starts_with(&format!("no job `{given}`")),
                "{message}"
            );
        }
        assert_eq!(missing_job("a", &[]), "no job `a`: there are no jobs");
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<u64> = (0..RETRIES)
            .map(|tried| Retry { tried }.pause().as_millis() as u64)
            .collect();
        assert_eq!(pauses[..5], [250, 500, 1_000, 2_000, 2_000]);
        assert!(pauses.iter().sum::<u64>() < 20_000);
    }

    #[tokio::test]
    async fn a_wrong_address_is_told_at_once_and_named() {
        // A port that was free a moment ago: nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let failure = Client::connect(&address).await.unwrap_err();
        assert_eq!(failure.code, crate::exit::Code::Unreachable);
        assert!(failure.message.contains(&address), "{failure}");
        for bad in ["http://", "ftp://h:1", "not an address"] {
            let failure = Client::connect(bad).await.unwrap_err();
            assert_eq!(failure.code, crate::exit::Code::Usage, "{bad}");
        }
    }

    #[test]
    fn only_lost_connections_are_tried_again() {
        let fresh = Retry::default();
        assert!(fresh.may(&Status::unavailable("gone")));
        assert!(fresh.may(&Status::unknown("transport error")));
        assert!(!fresh.may(&Status::invalid_argument("no")));
        assert!(!fresh.may(&Status::not_found("no")));
        let tired = Retry { tried: RETRIES };
        assert!(!tired.may(&Status::unavailable("gone")));
    }
}
