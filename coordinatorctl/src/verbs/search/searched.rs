//! A job's search as it is known: its spec, its log and its trials, for verbs that look at the whole of it.

use trainyard_common::spec::Document;
use trainyard_proto::v1;

use crate::exit::{Failure, Outcome};
use crate::options::Global;
use crate::session;

pub(crate) struct Searched {
    /// As JSON.
    pub(crate) spec: String,
    pub(crate) log: Vec<v1::SearchLogEntry>,
    pub(crate) trials: Vec<v1::TrialSummary>,
}

/// Asks for all of it.
pub(crate) async fn ask(global: &Global, job: &str) -> Outcome<Searched> {
    session::with(&global.endpoint(), async |session| {
        let client = &session.client;
        let (_, spec) = client.job(job).await?;
        // The trials after the log, so that none that it names is missing.
        let log = client.search_log(job).await?;
        let trials = client.trials(job).await?;
        Ok(Searched { spec, log, trials })
    })
    .await
}

/// The spec of an accepted job.
pub(crate) fn document(job: &str, spec: &str) -> Outcome<Document> {
    let spec = serde_json::from_str(spec).map_err(|error| unreadable(job, "the spec", &error))?;
    Document::from_accepted(spec).map_err(|errors| unreadable(job, "the spec", &errors))
}

/// What another version wrote.
pub(crate) fn unreadable(job: &str, what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{what} of {job} cannot be read: {error}"))
}
