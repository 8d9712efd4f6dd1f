//! `JobService`: what people and their tools ask.

use std::pin::Pin;

use futures::Stream;
use tonic::{Request, Response, Status};
use tracing::instrument;
use trainyard_common::ids::{JobId, RequestId, TrialId, WorkerId};
use trainyard_common::spec::{Document, SpecErrors};
use trainyard_common::store_url;
use trainyard_proto::v1;
use trainyard_proto::v1::job_service_server::JobService;

use super::status::ApiError;
use super::{convert, logs, watch};
use crate::cluster::query::TrialSummary;
use crate::cluster::types::{Event, Reply, WorkspaceChange};
use crate::driver::series::{SeriesError, decode_decision, decode_point};
use crate::driver::{CallError, Seat};
use crate::store::{Item, Series, SeriesKind};

/// Largest spec that is read, bytes. The largest sensible one is a few kilobytes.
const MAX_SPEC_BYTES: usize = 1024 * 1024;

/// Jobs in a list when the client names no number.
const DEFAULT_LIST: usize = 1_000;

/// Items of a series that are read from the store at a time.
const SCAN_CHUNK: usize = 2_000;

/// The service.
pub(super) struct Jobs {
    driver: Seat,
}

impl Jobs {
    pub(super) fn new(driver: Seat) -> Self {
        Self { driver }
    }

    async fn submit(
        &self,
        request: v1::SubmitJobRequest,
    ) -> Result<v1::SubmitJobResponse, ApiError> {
        let document = parse(request.spec).await?;
        if let Some(url) = &document.job().checkpoint_storage.url {
            // Nothing is read or written: what fails here would always fail.
            store_url::open(url)
                .map_err(|error| SpecErrors::one("checkpoint_storage.url", error.to_string()))?;
        }
        let event = Event::Submit {
            request: RequestId(request.request_id),
            document: Box::new(document),
        };
        match self.driver.ask(event).await? {
            Reply::Submitted { job, warnings } => {
                tracing::info!(job_id = %job, "job accepted");
                Ok(v1::SubmitJobResponse {
                    job_id: job.0,
                    warnings,
                })
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }

    async fn cancel(
        &self,
        request: v1::CancelJobRequest,
    ) -> Result<v1::CancelJobResponse, ApiError> {
        let event = Event::Cancel {
            request: RequestId(request.request_id),
            job: convert::job_id(&request.job_id)?,
        };
        match self.driver.ask(event).await? {
            Reply::Cancelled { job, state } => {
                tracing::info!(job_id = %job, ?state, "job cancelled");
                Ok(v1::CancelJobResponse {
                    state: convert::job_state(state).into(),
                })
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }

    /// Pauses or resumes, as the event says.
    async fn hold(&self, event: Event) -> Result<v1::HoldResponse, ApiError> {
        match self.driver.ask(event).await? {
            Reply::Held { job, state, trial } => {
                tracing::info!(job_id = %job, ?state, ?trial, "paused or resumed");
                Ok(v1::HoldResponse {
                    state: convert::job_state(state).into(),
                    trial_state: trial.map(|state| convert::trial_state(state).into()),
                })
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }

    /// Sets or takes back what was set, as the event says.
    async fn workspace(&self, event: Event) -> Result<v1::Workspace, ApiError> {
        match self.driver.ask(event).await? {
            Reply::Workspace(summary) => {
                let (weight, cpu) = (summary.weight, summary.max_cpu_slots);
                let cuda = summary.max_cuda_slots;
                tracing::info!(
                    workspace = summary.workspace,
                    weight,
                    cpu,
                    cuda,
                    "workspace set"
                );
                Ok(convert::workspace(summary))
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }

    async fn get(&self, request: v1::GetJobRequest) -> Result<v1::GetJobResponse, ApiError> {
        let id = convert::job_id(&request.job_id)?;
        let job = id.clone();
        let found = self
            .driver
            .read(move |machine| Some((machine.job(&job)?, machine.document(&job)?.to_json())))
            .await?;
        let (job, spec) = found.ok_or(ApiError::NoJob(id))?;
        Ok(v1::GetJobResponse {
            job: Some(convert::job(job)),
            spec_json: spec.to_string(),
        })
    }

    async fn list(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, ApiError> {
        let limit = match request.limit {
            0 => DEFAULT_LIST,
            limit => limit as usize,
        };
        let jobs = self.driver.read(|machine| machine.jobs()).await?;
        Ok(v1::ListJobsResponse {
            jobs: jobs
                .into_iter()
                .rev()
                .filter(|job| request.workspace.is_empty() || job.workspace == request.workspace)
                .take(limit)
                .map(convert::job)
                .collect(),
        })
    }

    async fn trials(&self, job: JobId) -> Result<Vec<TrialSummary>, ApiError> {
        let id = job.clone();
        let trials = self.driver.read(move |machine| machine.trials(&id)).await?;
        trials.ok_or(ApiError::NoJob(job))
    }

    async fn trial(&self, job: JobId, trial: TrialId) -> Result<TrialSummary, ApiError> {
        let id = job.clone();
        let (known, found) = self
            .driver
            .read(move |machine| (machine.job(&id).is_some(), machine.trial(&id, trial)))
            .await?;
        found.ok_or(if known {
            ApiError::NoTrial { job, trial }
        } else {
            ApiError::NoJob(job)
        })
    }

    async fn points(&self, job: &JobId, trial: TrialId) -> Result<Vec<v1::MetricPoint>, ApiError> {
        let series = Series {
            kind: SeriesKind::Points,
            job: job.clone(),
            trial,
        };
        self.whole(series, |item| decode_point(item).map(convert::point))
            .await
    }

    async fn decisions(&self, job: &JobId, trial: TrialId) -> Result<Vec<v1::Decision>, ApiError> {
        let series = Series {
            kind: SeriesKind::Decisions,
            job: job.clone(),
            trial,
        };
        self.whole(series, |item| {
            decode_decision(item).map(|stored| convert::decision(item.sequence, stored))
        })
        .await
    }

    /// Every item of a series; each kind has a bound.
    async fn whole<T>(
        &self,
        series: Series,
        decode: impl Fn(&Item) -> Result<T, SeriesError>,
    ) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let items = self.driver.scan(&series, after, SCAN_CHUNK).await?;
            let Some(last) = items.last() else {
                return Ok(all);
            };
            after = last.sequence;
            for item in &items {
                all.push(decode(item).map_err(|error| ApiError::Series {
                    job: series.job.clone(),
                    trial: series.trial,
                    error,
                })?);
            }
        }
    }

    async fn checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, ApiError> {
        let id = convert::job_id(&request.job_id)?;
        let trials = match request.trial_id {
            Some(trial) => vec![self.trial(id.clone(), TrialId(trial)).await?],
            None => self.trials(id.clone()).await?,
        };
        let job = id.clone();
        let summary = self.driver.read(move |machine| machine.job(&job)).await?;
        Ok(v1::ListCheckpointsResponse {
            checkpoint_url: summary.ok_or(ApiError::NoJob(id))?.checkpoint_url,
            checkpoints: trials.into_iter().flat_map(convert::checkpoints).collect(),
        })
    }
}

/// Parses and checks a spec off the async threads: it may be large and deeply nested.
async fn parse(spec: String) -> Result<Document, ApiError> {
    if spec.len() > MAX_SPEC_BYTES {
        return Err(ApiError::field(
            "spec",
            format!("{} bytes", spec.len()),
            format!("at most {MAX_SPEC_BYTES}"),
        ));
    }
    let parsed = tokio::task::spawn_blocking(move || Document::parse(&spec))
        .await
        .map_err(|error| ApiError::Internal(format!("reading the spec: {error}")))?;
    Ok(parsed?)
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Jobs {
    #[instrument(skip_all, fields(request_id = %request.get_ref().request_id))]
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        Ok(Response::new(self.submit(request.into_inner()).await?))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    #[instrument(skip_all, fields(job_id = %request.get_ref().job_id))]
    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        Ok(Response::new(self.cancel(request.into_inner()).await?))
    }

    #[instrument(skip_all, fields(job_id = %request.get_ref().job_id))]
    async fn pause(
        &self,
        request: Request<v1::HoldRequest>,
    ) -> Result<Response<v1::HoldResponse>, Status> {
        let request = request.into_inner();
        let event = Event::Pause {
            job: convert::job_id(&request.job_id)?,
            request: RequestId(request.request_id),
            trial: request.trial_id.map(TrialId),
        };
        Ok(Response::new(self.hold(event).await?))
    }

    #[instrument(skip_all, fields(job_id = %request.get_ref().job_id))]
    async fn resume(
        &self,
        request: Request<v1::HoldRequest>,
    ) -> Result<Response<v1::HoldResponse>, Status> {
        let request = request.into_inner();
        let event = Event::Resume {
            job: convert::job_id(&request.job_id)?,
            request: RequestId(request.request_id),
            trial: request.trial_id.map(TrialId),
        };
        Ok(Response::new(self.hold(event).await?))
    }

    type WatchJobStream = Events<v1::JobEvent>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let job = convert::job_id(&request.get_ref().job_id)?;
        let stream = watch::open(self.driver.handle().map_err(ApiError::from)?, job).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<v1::ListTrialsResponse>, Status> {
        let job = convert::job_id(&request.get_ref().job_id)?;
        let trials = self.trials(job).await?;
        Ok(Response::new(v1::ListTrialsResponse {
            trials: trials.into_iter().map(convert::trial).collect(),
        }))
    }

    async fn get_trial(
        &self,
        request: Request<v1::GetTrialRequest>,
    ) -> Result<Response<v1::GetTrialResponse>, Status> {
        let job = convert::job_id(&request.get_ref().job_id)?;
        let trial = TrialId(request.get_ref().trial_id);
        let mut summary = self.trial(job.clone(), trial).await?;
        let id = job.clone();
        let slow = self
            .driver
            .read(move |machine| machine.slow_trial(&id, trial));
        if let Some(slow) = slow.await.map_err(ApiError::from)? {
            summary.reason = format!("{}; {slow}", summary.reason);
        }
        Ok(Response::new(v1::GetTrialResponse {
            trial: Some(convert::trial(summary)),
            points: self.points(&job, trial).await?,
        }))
    }

    async fn explain_trial(
        &self,
        request: Request<v1::ExplainTrialRequest>,
    ) -> Result<Response<v1::ExplainTrialResponse>, Status> {
        let job = convert::job_id(&request.get_ref().job_id)?;
        let trial = TrialId(request.get_ref().trial_id);
        // A trial that does not exist has no decisions either: told apart here.
        self.trial(job.clone(), trial).await?;
        Ok(Response::new(v1::ExplainTrialResponse {
            decisions: self.decisions(&job, trial).await?,
        }))
    }

    type StreamLogsStream = Events<v1::LogLine>;

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.job_id)?;
        let query = logs::Query {
            job,
            trial: request.trial_id.map(TrialId),
            follow: request.follow,
            after: request.after_sequence,
        };
        let stream = logs::open(self.driver.handle().map_err(ApiError::from)?, query).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        Ok(Response::new(self.checkpoints(request.into_inner()).await?))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let workers = self.driver.read(|machine| machine.workers()).await;
        let workers = workers.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(convert::worker).collect(),
        }))
    }

    async fn extend_job(
        &self,
        request: Request<v1::ExtendJobRequest>,
    ) -> Result<Response<v1::ExtendJobResponse>, Status> {
        let request = request.into_inner();
        let event = Event::Extend {
            request: RequestId(request.request_id),
            job: convert::job_id(&request.job_id)?,
            trials: request.trials,
            seconds: request.seconds,
        };
        match self.driver.ask(event).await {
            Ok(Reply::Extended {
                job,
                state,
                trials_expected,
            }) => {
                tracing::info!(job_id = %job, ?state, ?trials_expected, "search extended");
                Ok(Response::new(v1::ExtendJobResponse {
                    state: convert::job_state(state).into(),
                    trials_expected: trials_expected.unwrap_or(0),
                }))
            }
            Ok(_) => Err(ApiError::Internal("the wrong reply".to_owned()).into()),
            Err(error) => Err(ApiError::from(error).into()),
        }
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let v1::DrainWorkerRequest { worker_id, undo } = request.into_inner();
        convert::identifier("worker_id", &worker_id)?;
        let worker = WorkerId(worker_id);
        match self.driver.ask(Event::Drain { worker, undo }).await {
            Ok(Reply::Drained {
                worker,
                draining,
                attempts,
            }) => {
                tracing::info!(worker_id = %worker, draining, attempts, "told to drain");
                Ok(Response::new(v1::DrainWorkerResponse {
                    draining,
                    attempts,
                }))
            }
            Ok(_) => Err(ApiError::Internal("the wrong reply".to_owned()).into()),
            Err(error) => Err(ApiError::from(error).into()),
        }
    }

    async fn list_workspaces(
        &self,
        _: Request<v1::ListWorkspacesRequest>,
    ) -> Result<Response<v1::ListWorkspacesResponse>, Status> {
        let known = self.driver.read(|machine| machine.workspaces()).await;
        let known = known.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListWorkspacesResponse {
            workspaces: known.into_iter().map(convert::workspace).collect(),
        }))
    }

    async fn set_workspace(
        &self,
        request: Request<v1::SetWorkspaceRequest>,
    ) -> Result<Response<v1::SetWorkspaceResponse>, Status> {
        let request = request.into_inner();
        let event = Event::SetWorkspace {
            workspace: request.name,
            change: WorkspaceChange {
                weight: request.weight,
                max_cpu_slots: request.max_cpu_slots,
                max_cuda_slots: request.max_cuda_slots,
                no_quota: request.no_quota,
            },
        };
        let workspace = Some(self.workspace(event).await?);
        Ok(Response::new(v1::SetWorkspaceResponse { workspace }))
    }

    async fn remove_workspace(
        &self,
        request: Request<v1::RemoveWorkspaceRequest>,
    ) -> Result<Response<v1::RemoveWorkspaceResponse>, Status> {
        let workspace = request.into_inner().name;
        let event = Event::RemoveWorkspace { workspace };
        let workspace = Some(self.workspace(event).await?);
        Ok(Response::new(v1::RemoveWorkspaceResponse { workspace }))
    }

    async fn get_cluster_info(
        &self,
        _: Request<v1::GetClusterInfoRequest>,
    ) -> Result<Response<v1::GetClusterInfoResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let cluster = match self.driver.read(|machine| machine.cluster()).await {
            Ok(cluster) => cluster,
            Err(CallError::NotLeading { .. }) => {
                let (leader, term) = self
                    .driver
                    .leader()
                    .map_or_else(Default::default, |leader| (leader.address, leader.term));
                return Ok(Response::new(v1::GetClusterInfoResponse {
                    version,
                    term,
                    role: "standby".to_owned(),
                    leader,
                    ..Default::default()
                }));
            }
            Err(error) => return Err(ApiError::from(error).into()),
        };
        Ok(Response::new(v1::GetClusterInfoResponse {
            version,
            term: cluster.term.0,
            slots_total: cluster.slots_total,
            slots_used: cluster.slots_used,
            jobs_active: cluster.jobs_active,
            role: "leader".to_owned(),
            leader: String::new(),
        }))
    }
}
