//! `JobService`: what people and their tools ask.

mod bundles;
mod change;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status, Streaming};
use tracing::instrument;
use trainyard_common::ids::{RequestId, TrialId, WorkerId};
use trainyard_proto::v1;
use trainyard_proto::v1::job_service_server::JobService;

use super::status::ApiError;
use super::tail::Tails;
use super::{convert, found, logs, pages, search_log, watch, woken};
use crate::clients::{Client, Held, Tally};
use crate::cluster::api::{Event, Reply, WorkspaceChange};
use crate::driver::{CallError, Seat};

/// The service.
pub(super) struct Jobs {
    driver: Seat,
    /// Open calls that watch or follow.
    watchers: Arc<Tally>,
    tails: Tails,
    /// The longest bundle that is accepted, bytes.
    bundle: u64,
}

impl Jobs {
    pub(super) fn new(driver: Seat, watchers: Arc<Tally>, bundle: u64) -> Self {
        Self {
            driver,
            watchers,
            tails: Tails::default(),
            bundle,
        }
    }

    /// One more call of this client that watches or follows.
    fn watcher<T>(&self, request: &Request<T>) -> Result<Held, ApiError> {
        let client = Client::at(request.remote_addr());
        let held = self.watchers.enter(client);
        held.map_err(|full| CallError::TooMany(full).into())
    }

    async fn get(&self, request: v1::GetJobRequest) -> Result<v1::GetJobResponse, ApiError> {
        let job = convert::job_id(&request.job_id)?;
        let driver = self.driver.handle().await?;
        Ok(v1::GetJobResponse {
            job: Some(convert::job(found::job(&driver, &job).await?)),
            spec_json: found::spec(&driver, &job).await?,
        })
    }
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

    async fn find_bundle(
        &self,
        request: Request<v1::FindBundleRequest>,
    ) -> Result<Response<v1::FindBundleResponse>, Status> {
        Ok(Response::new(self.has_bundle(request.into_inner()).await?))
    }

    async fn upload_bundle(
        &self,
        request: Request<Streaming<v1::UploadBundleRequest>>,
    ) -> Result<Response<v1::UploadBundleResponse>, Status> {
        let stored = self.take_bundle(request.into_inner()).await?;
        Ok(Response::new(stored))
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
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::jobs(&driver, request.into_inner()).await?,
        ))
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
        let asked = request.into_inner();
        let job = convert::job_id(&asked.job_id)?;
        let request = RequestId(asked.request_id);
        let trial = asked.trial_id.map(TrialId);
        let answer = match asked.retry_failed {
            true => {
                self.retry(Event::Retry {
                    request,
                    job,
                    trial,
                })
                .await?
            }
            false => {
                self.hold(Event::Resume {
                    request,
                    job,
                    trial,
                })
                .await?
            }
        };
        Ok(Response::new(answer))
    }

    type WatchJobStream = Events<v1::JobEvent>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let held = self.watcher(&request)?;
        let job = convert::job_id(&request.get_ref().job_id)?;
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        let stream = watch::open(driver, job, held).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<v1::ListTrialsResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::trials(&driver, request.into_inner()).await?,
        ))
    }

    async fn get_trial(
        &self,
        request: Request<v1::GetTrialRequest>,
    ) -> Result<Response<v1::GetTrialResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::trial(&driver, request.into_inner()).await?,
        ))
    }

    async fn explain_trial(
        &self,
        request: Request<v1::ExplainTrialRequest>,
    ) -> Result<Response<v1::ExplainTrialResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::explanation(&driver, request.into_inner()).await?,
        ))
    }

    async fn get_search_log(
        &self,
        request: Request<v1::GetSearchLogRequest>,
    ) -> Result<Response<v1::GetSearchLogResponse>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.job_id)?;
        let entries = search_log::page(&self.driver, &job, request.from).await?;
        Ok(Response::new(v1::GetSearchLogResponse { entries }))
    }

    type StreamLogsStream = Events<v1::LogLine>;

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        let held = self.watcher(&request)?;
        let query = logs::Query::read(request.into_inner())?;
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        let stream = logs::open(driver, &self.tails, query, held).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::checkpoints(&driver, request.into_inner()).await?,
        ))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::workers(&driver, request.into_inner()).await?,
        ))
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
        match woken::extend(&self.driver, event).await {
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
            Err(error) => Err(error.into()),
        }
    }

    #[instrument(skip_all, fields(job_id = %request.get_ref().job_id))]
    async fn archive_job(
        &self,
        request: Request<v1::ArchiveJobRequest>,
    ) -> Result<Response<v1::ArchiveJobResponse>, Status> {
        Ok(Response::new(self.archive(request.into_inner()).await?))
    }

    #[instrument(skip_all, fields(job_id = %request.get_ref().job_id))]
    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        Ok(Response::new(self.delete(request.into_inner()).await?))
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

    async fn forget_worker(
        &self,
        request: Request<v1::ForgetWorkerRequest>,
    ) -> Result<Response<v1::ForgetWorkerResponse>, Status> {
        let v1::ForgetWorkerRequest { worker_id } = request.into_inner();
        convert::identifier("worker_id", &worker_id)?;
        let worker = WorkerId(worker_id);
        match self.driver.ask(Event::ForgetWorker { worker }).await {
            Ok(Reply::Forgotten { worker, attempts }) => {
                tracing::info!(worker_id = %worker, attempts, "forgotten");
                Ok(Response::new(v1::ForgetWorkerResponse { attempts }))
            }
            Ok(_) => Err(ApiError::Internal("the wrong reply".to_owned()).into()),
            Err(error) => Err(ApiError::from(error).into()),
        }
    }

    async fn list_workspaces(
        &self,
        request: Request<v1::ListWorkspacesRequest>,
    ) -> Result<Response<v1::ListWorkspacesResponse>, Status> {
        let driver = self.driver.handle().await.map_err(ApiError::from)?;
        Ok(Response::new(
            pages::workspaces(&driver, request.into_inner()).await?,
        ))
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
