//! Streams that outlive their connection: a job's events and its log lines. Each goes on with the next
//! coordinator that leads; nothing is told twice, and no line is left out.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tonic::{Status, Streaming};
use trainyard_proto::v1;

use super::client::Client;
use super::link::{Retry, Turn};
use crate::exit::Outcome;
use crate::view::convert;

/// Positions that a coordinator reads at most; of further trials everything is told again.
const MAX_POSITIONS: usize = 100_000;

/// A job's events; goes on over lost connections, each time with a new snapshot of which only what has
/// changed is told.
#[derive(Debug)]
pub(crate) struct Watch {
    client: Client,
    job_id: String,
    stream: Option<(Turn, Streaming<v1::JobEvent>)>,
    retry: Retry,
    ended: bool,
    /// Digest of what was told last of the job (no trial) and of each trial.
    told: BTreeMap<Option<u32>, u64>,
}

impl Watch {
    pub(crate) async fn open(client: &Client, job_id: &str) -> Outcome<Self> {
        let mut watch = Self {
            client: client.clone(),
            job_id: job_id.to_owned(),
            stream: None,
            retry: Retry::from_first_failure(),
            ended: false,
            told: BTreeMap::new(),
        };
        watch.reopen().await?;
        Ok(watch)
    }

    async fn reopen(&mut self) -> Outcome {
        let stream = self.client.open_watch(&self.job_id).await?;
        self.stream = Some((self.client.link.turn().await, stream));
        Ok(())
    }

    /// Whether this says anything that was not told already.
    fn is_news(&mut self, event: &v1::job_event::Event) -> bool {
        use v1::job_event::Event;
        let (of, digest) = match event {
            Event::Job(job) => (None, digest(job)),
            Event::Trial(trial) => (Some(trial.trial_id), digest(trial)),
        };
        self.told.insert(of, digest) != Some(digest)
    }

    /// The next event; `None` once the job has ended and everything was told.
    pub(crate) async fn next(&mut self) -> Outcome<Option<v1::job_event::Event>> {
        loop {
            let Some((turn, stream)) = self.stream.as_mut() else {
                self.reopen().await?;
                continue;
            };
            let turn = *turn;
            let status = match stream.message().await {
                Ok(Some(v1::JobEvent { event: Some(event) })) => {
                    self.retry.reset();
                    if let v1::job_event::Event::Job(job) = &event {
                        self.ended = convert::job_ended(job.state());
                    }
                    if self.is_news(&event) {
                        return Ok(Some(event));
                    }
                    continue;
                }
                Ok(Some(v1::JobEvent { event: None })) => continue,
                Ok(None) | Err(_) if self.ended => return Ok(None),
                Ok(None) => Status::unavailable("the coordinator ended the stream"),
                Err(status) => status,
            };
            self.stream = None;
            let link = self.client.link.clone();
            self.retry.again(&link, turn, status).await?;
        }
    }
}

/// A message's digest: its encoding is the same for the same content.
fn digest(message: &impl prost::Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

/// A job's log lines, each once; with `follow`, over lost connections too.
#[derive(Debug)]
pub(crate) struct Logs {
    client: Client,
    job_id: String,
    trial_id: Option<u32>,
    follow: bool,
    stream: Option<(Turn, Streaming<v1::LogLine>)>,
    /// Last sequence told of each trial.
    told: BTreeMap<u32, u64>,
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
            told: BTreeMap::new(),
            retry: Retry::from_first_failure(),
        }
    }

    async fn reopen(&mut self) -> Outcome {
        // Of each trial the rest is asked for. A coordinator that knows no positions tells everything: what
        // was told is left out below.
        let told = self.told.iter();
        let positions = told.map(|(trial_id, told)| v1::LogPosition {
            trial_id: *trial_id,
            after_sequence: *told,
        });
        let (job, positions) = (&self.job_id, positions.take(MAX_POSITIONS).collect());
        let stream = self
            .client
            .logs(job, self.trial_id, self.follow, positions)
            .await?;
        self.stream = Some((self.client.link.turn().await, stream));
        Ok(())
    }

    /// The next line that was not told yet; `None` at the end.
    pub(crate) async fn next(&mut self) -> Outcome<Option<v1::LogLine>> {
        loop {
            let Some((turn, stream)) = self.stream.as_mut() else {
                self.reopen().await?;
                continue;
            };
            let turn = *turn;
            let status = match stream.message().await {
                Ok(Some(line)) => {
                    self.retry.reset();
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
            let link = self.client.link.clone();
            self.retry.again(&link, turn, status).await?;
        }
    }
}
