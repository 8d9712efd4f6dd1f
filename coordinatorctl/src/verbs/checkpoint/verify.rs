//! `checkpoint verify`: reads checkpoints whole and checks every digest.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_proto::v1;
use trainyard_worker::checkpoint::{CheckpointError, CheckpointStore, Held};

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::output::Verified;

/// Read a job's checkpoints whole and check every digest
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "JOB")]
    job: String,
    /// Only this trial's
    #[arg(long, value_name = "N")]
    trial: Option<u32>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Outcome {
    let answer = session::with(&global.endpoint(), async |session| {
        session.client.checkpoints(&args.job, args.trial).await
    })
    .await?;
    let store =
        CheckpointStore::open(&answer.checkpoint_url).map_err(|error| store_failure(&error))?;
    let (mut checked, mut broken) = (0, 0);
    for entry in &answer.checkpoints {
        let Some(checkpoint) = &entry.checkpoint else {
            continue;
        };
        let verified = verify(&store, entry.trial_id, checkpoint).await?;
        checked += 1;
        broken += usize::from(!verified.whole);
        match global.output {
            Format::Json => print::json_line(&verified)?,
            Format::Text => print::line(&line(&verified))?,
        }
    }
    print::remark(&format!("{checked} checked, {broken} not whole"));
    if broken > 0 {
        return Err(Failure::failed(format!(
            "{broken} of {checked} checkpoints of {} are not whole",
            args.job
        )));
    }
    Ok(())
}

/// A torn checkpoint is a result; a store that cannot be read is a failure.
pub(crate) async fn verify(
    store: &CheckpointStore,
    trial_id: u32,
    checkpoint: &v1::CheckpointRef,
) -> Outcome<Verified> {
    let reference = reference(checkpoint);
    let (tensors, files, error) = match store.verify_ref(&reference).await {
        Ok(Held::Tensors(tensors)) => (tensors, None, None),
        Ok(Held::Files(files)) => (0, Some(files), None),
        Err(error) if error.is_retryable() => return Err(store_failure(&error)),
        Err(error) => (0, None, Some(error.to_string())),
    };
    Ok(Verified {
        trial_id,
        manifest: reference.manifest,
        step: reference.step,
        tensors,
        files,
        whole: error.is_none(),
        error,
    })
}

/// As the store wants it; metrics are no part of what is checked.
pub(crate) fn reference(checkpoint: &v1::CheckpointRef) -> CheckpointRef {
    CheckpointRef {
        manifest: checkpoint.manifest.clone(),
        step: checkpoint.step,
        epoch: checkpoint.epoch,
        bytes: checkpoint.bytes,
        digest: checkpoint.digest.clone(),
        metrics: Vec::new(),
    }
}

fn line(verified: &Verified) -> String {
    let Verified {
        trial_id, manifest, ..
    } = verified;
    match &verified.error {
        None => format!("trial {trial_id} {manifest}: whole, {}", verified.held()),
        Some(error) => format!("trial {trial_id} {manifest}: NOT WHOLE: {error}"),
    }
}

/// What a checkpoint store's error means for the exit code.
pub(crate) fn store_failure(error: &CheckpointError) -> Failure {
    match error {
        CheckpointError::Open(_) | CheckpointError::Store { .. } => {
            Failure::unreachable(error.to_string())
        }
        _ => Failure::failed(error.to_string()),
    }
}
