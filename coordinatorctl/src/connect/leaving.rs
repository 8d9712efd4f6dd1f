//! The client's question about jobs that are being archived or removed.

use trainyard_proto::v1;

use super::Client;
use crate::exit::Outcome;

/// How many jobs are on their way out of a coordinator's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// It goes on.
    pub(crate) under_way: u32,
    /// It has failed and is tried again later.
    pub(crate) failed: u32,
}

impl Client {
    pub(crate) async fn leaving(&self) -> Outcome<Leaving> {
        let question = v1::ListJobsRequest {
            limit: 1,
            ..v1::ListJobsRequest::default()
        };
        let answer = self
            .ask(question, async |mut service, question| {
                service.list_jobs(question).await
            })
            .await?;
        Ok(Leaving {
            under_way: answer.leaving,
            failed: answer.leaving_failed,
        })
    }
}
