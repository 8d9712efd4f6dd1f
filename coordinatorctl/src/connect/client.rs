//! The conversation with the coordinator: questions and their answers. How the leader is found and
//! followed is in `link`, streams that outlive a take-over in `streams`. Knows nothing of verbs or of
//! how answers are shown.
//!
//! Everything here may be asked twice: reading changes nothing, and a mutating request carries an id
//! by which the coordinator recognises a repetition.

use std::sync::Arc;

use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use trainyard_proto::v1;
use trainyard_proto::v1::job_service_client::JobServiceClient;
use uuid::Uuid;

use super::link::{Link, Retry};
use crate::exit::{Failure, Outcome};
use crate::view::convert;
use crate::view::text;

/// Workers or workspaces of one answer.
pub(super) const PAGE: u32 = 1_000;

/// Jobs among which a near name is looked for.
const NEAR_JOBS: u32 = 1_000;

fn hold(job_id: &str, trial_id: Option<u32>, retry_failed: bool) -> v1::HoldRequest {
    v1::HoldRequest {
        request_id: Uuid::new_v4().to_string(),
        job_id: job_id.to_owned(),
        trial_id,
        retry_failed,
    }
}

/// All that a list has, page by page: each question names where the one before has ended.
pub(super) async fn pages<T>(
    mut page: impl AsyncFnMut(String) -> Outcome<(Vec<T>, String)>,
) -> Outcome<Vec<T>> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (items, next) = page(token).await?;
        all.extend(items);
        token = next;
        if token.is_empty() {
            return Ok(all);
        }
    }
}

/// A connection to the coordinator that leads. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(super) link: Arc<Link>,
}

impl Client {
    /// Connects to one of the addresses (separated by commas); where nobody listens at any of them,
    /// that is told at once.
    pub(crate) async fn connect(addresses: &str) -> Outcome<Self> {
        let link = Arc::new(Link::connect(addresses).await?);
        Ok(Self { link })
    }

    /// The addresses as they were given.
    pub(crate) fn address(&self) -> &str {
        self.link.addresses()
    }

    /// Asks, and asks again with the same words, here or at another address, while connections are
    /// lost or the one that is asked does not lead.
    pub(super) async fn ask<Q: Clone, A>(
        &self,
        question: Q,
        call: impl AsyncFn(JobServiceClient<Channel>, Request<Q>) -> Result<tonic::Response<A>, Status>,
    ) -> Outcome<A> {
        let mut retry = Retry::from_now();
        loop {
            let (turn, answer) = match self.link.service().await {
                (turn, Ok(service)) => {
                    let answer = call(service, Request::new(question.clone())).await;
                    (turn, answer)
                }
                (turn, Err(status)) => (turn, Err(status)),
            };
            match answer {
                Ok(answer) => {
                    self.link.succeeded(turn).await;
                    return Ok(answer.into_inner());
                }
                Err(status) => retry.again(&self.link, turn, status).await?,
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
        let Ok(jobs) = self.jobs("", NEAR_JOBS, false).await else {
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

    /// Moves an ended job into an archive; whether that exists already.
    pub(crate) async fn archive(&self, job_id: &str) -> Outcome<bool> {
        let question = v1::ArchiveJobRequest {
            request_id: Uuid::new_v4().to_string(),
            job_id: job_id.to_owned(),
        };
        let answer = self
            .ask_of(job_id, question, async |mut service, question| {
                service.archive_job(question).await
            })
            .await?;
        Ok(answer.archived)
    }

    /// Removes an ended job for good.
    pub(crate) async fn delete(&self, job_id: &str, force: bool, checkpoints: bool) -> Outcome {
        let question = v1::DeleteJobRequest {
            request_id: Uuid::new_v4().to_string(),
            job_id: job_id.to_owned(),
            force,
            checkpoints,
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.delete_job(question).await
        })
        .await?;
        Ok(())
    }

    /// Pauses a job or one of its trials.
    pub(crate) async fn pause(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
    ) -> Outcome<v1::HoldResponse> {
        let question = hold(job_id, trial_id, false);
        self.ask_of(job_id, question, async |mut service, question| {
            service.pause(question).await
        })
        .await
    }

    /// Lets go on what was paused, or tries again what has failed.
    pub(crate) async fn resume(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
        retry_failed: bool,
    ) -> Outcome<v1::HoldResponse> {
        let question = hold(job_id, trial_id, retry_failed);
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

    /// Archived jobs or the others, newest first, page by page; an empty workspace means all.
    pub(crate) async fn jobs(
        &self,
        workspace: &str,
        limit: u32,
        archived: bool,
    ) -> Outcome<Vec<v1::JobSummary>> {
        let mut jobs = Vec::new();
        let mut page_token = String::new();
        loop {
            let question = v1::ListJobsRequest {
                workspace: workspace.to_owned(),
                limit: limit - jobs.len() as u32,
                page_token,
                archived,
            };
            let answer = self
                .ask(question, async |mut service, question| {
                    service.list_jobs(question).await
                })
                .await?;
            jobs.extend(answer.jobs);
            page_token = answer.next_page_token;
            if page_token.is_empty() || jobs.len() >= limit as usize {
                return Ok(jobs);
            }
        }
    }

    /// In the order of suggestion, page by page.
    pub(crate) async fn trials(&self, job_id: &str) -> Outcome<Vec<v1::TrialSummary>> {
        pages(async |page_token| {
            let question = v1::ListTrialsRequest {
                job_id: job_id.to_owned(),
                page_size: 0,
                page_token,
            };
            let answer = self
                .ask_of(job_id, question, async |mut service, question| {
                    service.list_trials(question).await
                })
                .await?;
            Ok((answer.trials, answer.next_page_token))
        })
        .await
    }

    /// A trial with its learning curve, page by page.
    pub(crate) async fn trial(
        &self,
        job_id: &str,
        trial_id: u32,
    ) -> Outcome<(v1::TrialSummary, Vec<v1::MetricPoint>)> {
        let mut trial = None;
        let points = pages(async |page_token| {
            let question = v1::GetTrialRequest {
                job_id: job_id.to_owned(),
                trial_id,
                page_token,
            };
            let answer = self
                .ask_of(job_id, question, async |mut service, question| {
                    service.get_trial(question).await
                })
                .await?;
            trial = answer.trial;
            Ok((answer.points, answer.next_page_token))
        })
        .await?;
        let trial = trial.ok_or_else(|| self.incomplete("the trial"))?;
        Ok((trial, points))
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

    /// The whole log that a job's search follows from, in order, each entry as it is stored.
    pub(crate) async fn search_log(&self, job_id: &str) -> Outcome<Vec<v1::SearchLogEntry>> {
        let mut log: Vec<v1::SearchLogEntry> = Vec::new();
        loop {
            let question = v1::GetSearchLogRequest {
                job_id: job_id.to_owned(),
                from: log.last().map_or(0, |last| last.index + 1),
            };
            let page = self
                .ask_of(job_id, question, async |mut service, question| {
                    service.get_search_log(question).await
                })
                .await?;
            if page.entries.is_empty() {
                return Ok(log);
            }
            log.extend(page.entries);
        }
    }

    pub(crate) async fn checkpoints(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
    ) -> Outcome<v1::ListCheckpointsResponse> {
        let mut checkpoint_url = String::new();
        let checkpoints = pages(async |page_token| {
            let question = v1::ListCheckpointsRequest {
                job_id: job_id.to_owned(),
                trial_id,
                page_token,
            };
            let answer = self
                .ask_of(job_id, question, async |mut service, question| {
                    service.list_checkpoints(question).await
                })
                .await?;
            checkpoint_url = answer.checkpoint_url;
            Ok((answer.checkpoints, answer.next_page_token))
        })
        .await?;
        Ok(v1::ListCheckpointsResponse {
            checkpoint_url,
            checkpoints,
            ..Default::default()
        })
    }

    /// In the order of their ids, page by page.
    pub(crate) async fn workers(&self) -> Outcome<Vec<v1::WorkerSummary>> {
        pages(async |page_token| {
            let question = v1::ListWorkersRequest {
                page_size: PAGE,
                page_token,
            };
            let answer = self
                .ask(question, async |mut service, question| {
                    service.list_workers(question).await
                })
                .await?;
            Ok((answer.workers, answer.next_page_token))
        })
        .await
    }

    /// Adds trials or time to a search.
    pub(crate) async fn extend(
        &self,
        job_id: &str,
        trials: u32,
        seconds: f64,
    ) -> Outcome<v1::ExtendJobResponse> {
        let question = v1::ExtendJobRequest {
            request_id: Uuid::new_v4().to_string(),
            job_id: job_id.to_owned(),
            trials,
            seconds,
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.extend_job(question).await
        })
        .await
    }

    /// Asks a worker to drain, or takes that back.
    pub(crate) async fn drain_worker(
        &self,
        worker_id: &str,
        undo: bool,
    ) -> Outcome<v1::DrainWorkerResponse> {
        let question = v1::DrainWorkerRequest {
            worker_id: worker_id.to_owned(),
            undo,
        };
        self.ask(question, async |mut service, question| {
            service.drain_worker(question).await
        })
        .await
    }

    /// Gives a worker up that is gone.
    pub(crate) async fn forget_worker(&self, worker_id: &str) -> Outcome<v1::ForgetWorkerResponse> {
        let question = v1::ForgetWorkerRequest {
            worker_id: worker_id.to_owned(),
        };
        self.ask(question, async |mut service, question| {
            service.forget_worker(question).await
        })
        .await
    }

    pub(super) async fn open_watch(&self, job_id: &str) -> Outcome<Streaming<v1::JobEvent>> {
        let question = v1::WatchJobRequest {
            job_id: job_id.to_owned(),
        };
        self.ask_of(job_id, question, async |mut service, question| {
            service.watch_job(question).await
        })
        .await
    }

    /// Lines after these positions; of other trials, all.
    pub(super) async fn logs(
        &self,
        job_id: &str,
        trial_id: Option<u32>,
        follow: bool,
        positions: Vec<v1::LogPosition>,
    ) -> Outcome<Streaming<v1::LogLine>> {
        let question = v1::StreamLogsRequest {
            job_id: job_id.to_owned(),
            trial_id,
            follow,
            // All that a coordinator before this one knows.
            after_sequence: match (trial_id, &positions[..]) {
                (Some(_), [position]) => position.after_sequence,
                _ => 0,
            },
            positions,
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

    pub(super) fn incomplete(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "the coordinator at {} answered without {what}",
            self.address()
        ))
    }
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
}
