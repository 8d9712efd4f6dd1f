//! `artifact list`: read from the object store, where they lie beside the checkpoints.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use trainyard_common::ids::TrialId;
use trainyard_worker::checkpoint::{Artifact, CheckpointStore};

use crate::exit::Outcome;
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::verbs::checkpoint::verify::store_failure;
use crate::view::output::{self, Artifacts};
use crate::view::tables;

/// Trials whose lists are read at once.
const TRIALS_AT_ONCE: usize = 8;

/// List what the programs of a job have kept (`artifact` over the channel, `log_artifact` in Python)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Only this trial's
    #[arg(value_name = "TRIAL")]
    trial: Option<u32>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let url = url(global, &args.job).await?;
    let store = CheckpointStore::open(&url).map_err(|error| store_failure(&error))?;
    let failed = |error| store_failure(&error);
    let trials = match args.trial {
        Some(trial) => vec![TrialId(trial)],
        None => store.trials().await.map_err(failed)?,
    };
    let read = trials.into_iter().map(|trial| store.artifacts(trial));
    let read: Vec<Vec<Artifact>> = stream::iter(read)
        .buffered(TRIALS_AT_ONCE)
        .try_collect()
        .await
        .map_err(failed)?;
    let list = Artifacts {
        checkpoint_url: url,
        artifacts: read.iter().flatten().map(shown).collect(),
    };
    match global.output {
        Format::Text => print::line(&tables::artifacts(&list)),
        Format::Json => print::json(&list),
    }
}

/// Where the job's checkpoints and artifacts lie.
pub(super) async fn url(global: &Global, job: &str) -> Outcome<String> {
    session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(job).await?;
        Ok(job.checkpoint_url)
    })
    .await
}

fn shown(artifact: &Artifact) -> output::Artifact {
    let manifest = &artifact.manifest;
    output::Artifact {
        trial_id: manifest.trial,
        name: manifest.name.clone(),
        kind: manifest.kind,
        bytes: manifest.bytes(),
        files: manifest.files.len(),
        attempt: manifest.attempt,
        made_ms: manifest.made_ms,
        manifest: artifact.path.clone(),
    }
}
