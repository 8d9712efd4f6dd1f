//! Which checkpoint an attempt goes on from: the one it was given, or the newest that is whole.

use tokio::runtime::Handle;
use trainyard_proto::v1::Assignment;

use super::keeper::from_wire;
use crate::agent::outbox::Reporter;
use crate::checkpoint::{CheckpointRef, CheckpointStore, Snapshot};
use crate::collective::{CollectiveError, Group};
use crate::train::TrainError;

/// Why ranks could not agree on a checkpoint.
pub(super) enum ResumeError {
    Load(String),
    Collective(CollectiveError),
}

impl From<ResumeError> for super::native::Failed {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Load(text) => Self::Text(text),
            ResumeError::Collective(error) => Self::Train(TrainError::Collective(error)),
        }
    }
}

/// Rank 0 finds a whole checkpoint; all ranks load that one, so that all begin at the same step.
pub(super) fn agree(
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
    runtime: &Handle,
    group: &mut dyn Group,
) -> Result<Option<Snapshot>, ResumeError> {
    if assignment.resume_from.is_none() {
        return Ok(None);
    }
    let mut chosen = Vec::new();
    let mut found = None;
    if group.rank() == 0 {
        found = runtime
            .block_on(find(assignment, store, reporter))
            .map_err(ResumeError::Load)?;
        if let Some((reference, _)) = &found {
            chosen = serde_json::to_vec(reference)
                .map_err(|error| ResumeError::Load(error.to_string()))?;
        }
    }
    group
        .broadcast(0, &mut chosen)
        .map_err(ResumeError::Collective)?;
    if group.rank() == 0 || chosen.is_empty() {
        return Ok(found.map(|(_, snapshot)| snapshot));
    }
    let reference: CheckpointRef = serde_json::from_slice(&chosen)
        .map_err(|error| ResumeError::Load(format!("rank 0's choice of checkpoint: {error}")))?;
    runtime
        .block_on(store.load_ref(&reference))
        .map(Some)
        .map_err(|error| ResumeError::Load(error.to_string()))
}

async fn find(
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
) -> Result<Option<(CheckpointRef, Snapshot)>, String> {
    let Some(wanted) = assignment.resume_from.as_ref().map(from_wire) else {
        return Ok(None);
    };
    match store.load_ref(&wanted).await {
        Ok(snapshot) => return Ok(Some((wanted, snapshot))),
        Err(error) if error.is_corrupt() => reporter.warn(&format!(
            "{error}; going on from the newest checkpoint that is whole"
        )),
        Err(error) => return Err(error.to_string()),
    }
    let others: Vec<CheckpointRef> = assignment
        .checkpoints
        .iter()
        .map(from_wire)
        .filter(|other| other.manifest != wanted.manifest)
        .collect();
    let found = store
        .load_newest_whole(&others)
        .await
        .map_err(|error| error.to_string())?;
    match &found {
        Some((reference, _)) => reporter.warn(&format!("going on from {}", reference.manifest)),
        None => reporter.warn("no checkpoint of this trial is whole: starting from the beginning"),
    }
    Ok(found)
}
