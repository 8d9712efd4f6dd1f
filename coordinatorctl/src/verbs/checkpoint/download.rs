//! `checkpoint download`: a model's tensors, or a program's files, and the manifest, every digest checked, into
//! a folder.

use std::path::PathBuf;

use trainyard_proto::v1;
use trainyard_worker::checkpoint::CheckpointStore;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::verbs::checkpoint::verify::store_failure;
use crate::view::convert;
use crate::view::output::Downloaded;
use crate::view::text;

/// Download a checkpoint: model.safetensors, or a program's files in checkpoint/, and manifest.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Of this trial; unset, of the job's best
    #[arg(long, value_name = "N")]
    trial: Option<u32>,
    /// The trial's newest checkpoint instead of its best
    #[arg(long, conflicts_with = "manifest")]
    latest: bool,
    /// This one, as `checkpoint list` names it
    #[arg(long, value_name = "PATH")]
    manifest: Option<String>,
    /// The folder to write to; made if it is not there. Unset: JOB-trial-N
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let (url, chosen) = session::with(&global.endpoint(), async |session| {
        let (job, _) = session.client.job(&args.job).await?;
        let trial = args.trial.or(job.best_trial);
        let answer = session.client.checkpoints(&args.job, args.trial).await?;
        let over = convert::job_ended(job.state());
        let chosen = choose(&args, trial, over, &answer.checkpoints)?.clone();
        Ok((answer.checkpoint_url, chosen))
    })
    .await?;
    let manifest = chosen.checkpoint.unwrap_or_default().manifest;
    let folder = args
        .to
        .unwrap_or_else(|| PathBuf::from(format!("{}-trial-{}", args.job, chosen.trial_id)));
    let store = CheckpointStore::open(&url).map_err(|error| store_failure(&error))?;
    let written = store
        .download(&manifest, &folder)
        .await
        .map_err(|error| store_failure(&error))?;
    let result = Downloaded {
        job_id: args.job,
        trial_id: chosen.trial_id,
        manifest,
        directory: folder.display().to_string(),
        files: [&written.content, &written.manifest]
            .map(|path| path.display().to_string())
            .to_vec(),
        bytes: written.bytes,
    };
    match global.output {
        Format::Json => print::json(&result),
        Format::Text => print::line(&format!(
            "trial {} of {}: {} ({})",
            result.trial_id,
            result.job_id,
            result.files.join(" and "),
            text::bytes(result.bytes)
        )),
    }
}

/// The one checkpoint that the arguments mean. `over`: the job has ended, and no other will come.
fn choose<'a>(
    args: &Args,
    trial: Option<u32>,
    over: bool,
    known: &'a [v1::Checkpoint],
) -> Outcome<&'a v1::Checkpoint> {
    let job = &args.job;
    if let Some(path) = &args.manifest {
        let named = known.iter().find(|entry| {
            let manifest = entry.checkpoint.as_ref().map(|found| &found.manifest);
            manifest == Some(path)
        });
        return named.ok_or_else(|| {
            Failure::not_found(format!(
                "{job} has no checkpoint `{path}`; `coordinatorctl checkpoint list {job}` shows all"
            ))
        });
    }
    let yet = if over { "" } else { " yet" };
    let Some(trial) = trial else {
        return Err(Failure::not_found(format!(
            "{job} has no best trial{yet}; name a trial with --trial"
        )));
    };
    let of_trial = || {
        known
            .iter()
            .filter(|entry| entry.trial_id == trial && entry.checkpoint.is_some())
    };
    let best = of_trial().find(|entry| entry.best && !args.latest);
    best.or_else(|| of_trial().find(|entry| entry.latest))
        .ok_or_else(|| Failure::not_found(format!("trial {trial} of {job} has no checkpoint{yet}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn entry(trial_id: u32, manifest: &str, best: bool, latest: bool) -> v1::Checkpoint {
        v1::Checkpoint {
            trial_id,
            best,
            latest,
            checkpoint: Some(v1::CheckpointRef {
                manifest: manifest.into(),
                ..Default::default()
            }),
        }
    }

    fn args(latest: bool, manifest: Option<&str>) -> Args {
        Args {
            job: "digits-1".into(),
            trial: None,
            latest,
            manifest: manifest.map(str::to_owned),
            to: None,
        }
    }

    #[test]
    fn the_best_is_meant_unless_another_is_named() {
        let known = [
            entry(0, "a", true, true),
            entry(1, "b", true, false),
            entry(1, "c", false, true),
            entry(2, "d", false, true),
        ];
        let pick = |args: &Args, trial| {
            choose(args, trial, false, &known)
                .map(|entry| entry.checkpoint.clone().unwrap().manifest)
        };
        assert_eq!(pick(&args(false, None), Some(1)).unwrap(), "b");
        assert_eq!(pick(&args(true, None), Some(1)).unwrap(), "c");
        assert_eq!(pick(&args(false, None), Some(2)).unwrap(), "d");
        assert_eq!(pick(&args(false, Some("a")), Some(1)).unwrap(), "a");
        for (args, trial) in [
            (args(false, Some("x")), Some(1)),
            (args(false, None), Some(9)),
            (args(false, None), None),
        ] {
            assert_eq!(pick(&args, trial).unwrap_err().code, Code::NotFound);
        }
        // Nobody waits for what will not come.
        for trial in [None, Some(9)] {
            for over in [false, true] {
                let refused = choose(&args(false, None), trial, over, &known).unwrap_err();
                assert_eq!(refused.message.contains(" yet"), !over, "{refused}");
            }
        }
    }
}
