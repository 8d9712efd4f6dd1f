//! What people change: jobs, their trials and workspaces. Each is one event, answered once it is durable.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use trainyard_common::ids::RequestId;
use trainyard_common::spec::{Document, SpecErrors};
use trainyard_common::store_url;
use trainyard_proto::v1;

use super::Jobs;
use crate::cluster::api::{Event, Reply};
use crate::grpc::status::ApiError;
use crate::grpc::{convert, found, woken};

/// Largest spec that is read, bytes. The largest sensible one is a few kilobytes.
const MAX_SPEC_BYTES: usize = 1024 * 1024;

/// Specs that are read at once, others wait: the worst takes a core for several seconds, in which its space is
/// looked through, and some hundreds of megabytes. An ordinary one takes a few milliseconds.
static READING: Semaphore = Semaphore::const_new(2);

/// How long a spec waits for others to be read: far longer than those of honest clients take, and shorter than
/// clients wait for an answer. Who is told, or has left, waits no more.
const READING_PATIENCE: Duration = Duration::from_secs(20);

/// How long a store of checkpoints may take to show that it can be reached.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

impl Jobs {
    pub(super) async fn submit(
        &self,
        request: v1::SubmitJobRequest,
    ) -> Result<v1::SubmitJobResponse, ApiError> {
        let document = parse(request.spec).await?;
        if let Some(url) = &document.job().checkpoint_storage.url {
            // Nothing is read or written: what fails here would always fail.
            store_url::open(url)
                .map_err(|error| SpecErrors::one("checkpoint_storage.url", error.to_string()))?;
        }
        // Held until the job is known: nobody removes its bundle meanwhile.
        let _naming = self.bundle_is_there(&document).await?;
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

    pub(super) async fn cancel(
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
    pub(super) async fn hold(&self, event: Event) -> Result<v1::HoldResponse, ApiError> {
        held(self.driver.ask(event).await?)
    }

    /// Tries failed trials again. The search of a job that has failed rests, and is woken.
    pub(super) async fn retry(&self, event: Event) -> Result<v1::HoldResponse, ApiError> {
        held(woken::extend(&self.driver, event).await?)
    }

    /// Sets or takes back what was set, as the event says.
    pub(super) async fn workspace(&self, event: Event) -> Result<v1::Workspace, ApiError> {
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

    pub(super) async fn archive(
        &self,
        request: v1::ArchiveJobRequest,
    ) -> Result<v1::ArchiveJobResponse, ApiError> {
        let event = Event::Archive {
            request: RequestId(request.request_id),
            job: convert::job_id(&request.job_id)?,
        };
        match self.driver.ask(event).await? {
            Reply::Archiving { job, archived } => {
                tracing::info!(job_id = %job, archived, "job is archived");
                Ok(v1::ArchiveJobResponse { archived })
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }

    pub(super) async fn delete(
        &self,
        request: v1::DeleteJobRequest,
    ) -> Result<v1::DeleteJobResponse, ApiError> {
        let job = convert::job_id(&request.job_id)?;
        if request.checkpoints {
            // A repetition finds no job, and is answered as the first one was.
            let found = found::job(&self.driver.handle().await?, &job).await;
            if let Ok(found) = found {
                reachable(&found.checkpoint_url).await?;
            }
        }
        let event = Event::Delete {
            request: RequestId(request.request_id),
            job,
            force: request.force,
            checkpoints: request.checkpoints,
        };
        match self.driver.ask(event).await? {
            Reply::Deleted { job } => {
                tracing::info!(job_id = %job, checkpoints = request.checkpoints, "job is deleted");
                Ok(v1::DeleteJobResponse {})
            }
            _ => Err(ApiError::Internal("the wrong reply".to_owned())),
        }
    }
}

/// Whether the coordinator can look into a store of checkpoints. Where it cannot, it could not delete
/// them either.
async fn reachable(url: &str) -> Result<(), ApiError> {
    let refused = |reason: String| {
        ApiError::Checkpoints(format!(
            "the coordinator cannot reach the checkpoints in {url} ({reason}); without --checkpoints the \
             job is deleted and they stay"
        ))
    };
    let (store, folder) = store_url::open(url).map_err(|error| refused(error.to_string()))?;
    let look = async { store.list(Some(&folder)).next().await.transpose() };
    match tokio::time::timeout(LOOK_TIMEOUT, look).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(store_url::describe(&error))),
        Err(_) => Err(refused(format!(
            "no answer in {} s",
            LOOK_TIMEOUT.as_secs()
        ))),
    }
}

/// One's turn, within so long.
async fn turn(
    turns: &'static Semaphore,
    patience: Duration,
) -> Result<SemaphorePermit<'static>, ApiError> {
    match tokio::time::timeout(patience, turns.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(closed)) => Err(ApiError::Internal(closed.to_string())),
        Err(_) => Err(ApiError::Busy(format!(
            "the coordinator reads others' specs, and this one has waited for {} s",
            patience.as_secs()
        ))),
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
    // Held until the spec is read, also where nobody waits for it any more.
    let permit = turn(&READING, READING_PATIENCE).await?;
    let parsed = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        Document::parse(&spec)
    })
    .await
    .map_err(|error| ApiError::Internal(format!("reading the spec: {error}")))?;
    Ok(parsed?)
}

/// What is said once something was paused, resumed or tried again.
fn held(reply: Reply) -> Result<v1::HoldResponse, ApiError> {
    match reply {
        Reply::Held { job, state, trial } => {
            tracing::info!(job_id = %job, ?state, ?trial, "paused, resumed or tried again");
            Ok(v1::HoldResponse {
                state: convert::job_state(state).into(),
                trial_state: trial.map(|state| convert::trial_state(state).into()),
            })
        }
        _ => Err(ApiError::Internal("the wrong reply".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::status::status;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_not_waited_for_without_end() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let first = turn(&TURNS, READING_PATIENCE).await.unwrap();
        let error = turn(&TURNS, READING_PATIENCE).await.unwrap_err();
        let told = status(&error);
        assert_eq!(told.code(), tonic::Code::Unavailable);
        assert!(
            told.message().contains("waited for 20 s; ask again"),
            "{told}"
        );
        // Who has left is in nobody's way.
        let left = turn(&TURNS, READING_PATIENCE);
        drop(left);
        drop(first);
        assert!(turn(&TURNS, Duration::ZERO).await.is_ok());
    }
}
