//! `artifact download`: a file or folder that a trial has kept, every digest checked.

use std::path::PathBuf;

use trainyard_common::ids::TrialId;
use trainyard_worker::checkpoint::CheckpointStore;

use super::list::url;
use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global, TrialArgs};
use crate::print;
use crate::verbs::checkpoint::verify::store_failure;
use crate::view::output::DownloadedArtifact;
use crate::view::text;

/// Download a file or folder that a trial has kept
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: TrialArgs,
    /// As `artifact list` names it
    #[arg(value_name = "NAME")]
    name: String,
    /// What to write, a file or a folder as the artifact is; must not be there. Unset: the last part of NAME
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let url = url(global, &args.of.job).await?;
    let store = CheckpointStore::open(&url).map_err(|error| store_failure(&error))?;
    let known = store.artifacts(TrialId(args.of.trial)).await;
    let known = known.map_err(|error| store_failure(&error))?;
    let named = known.iter().find(|found| found.manifest.name == args.name);
    let Some(artifact) = named else {
        let names = known.iter().map(|found| found.manifest.name.as_str());
        let near = text::near(&args.name, names).map(|name| format!("; did you mean `{name}`?"));
        return Err(Failure::not_found(format!(
            "trial {} of {} has no artifact `{}`{}",
            args.of.trial,
            args.of.job,
            args.name,
            near.unwrap_or_default()
        )));
    };
    let last = args.name.rsplit('/').next().unwrap_or_default();
    let to = args.to.unwrap_or_else(|| PathBuf::from(last));
    let done = store.download_artifact(artifact, &to).await;
    done.map_err(|error| store_failure(&error))?;
    let result = DownloadedArtifact {
        job_id: args.of.job,
        trial_id: args.of.trial,
        name: args.name,
        kind: artifact.manifest.kind,
        path: to.display().to_string(),
        bytes: artifact.manifest.bytes(),
    };
    match global.output {
        Format::Json => print::json(&result),
        Format::Text => print::line(&format!(
            "trial {} of {}: {} ({})",
            result.trial_id,
            result.job_id,
            result.path,
            text::bytes(result.bytes)
        )),
    }
}
