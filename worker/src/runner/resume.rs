//! Which checkpoint an attempt goes on from: the one it was given, or the newest that is whole.
//! An evaluation is of the one that it was given, or fails.

use tokio::runtime::Handle;
use trainyard_proto::v1::{Assignment, AssignmentKind};

use super::retention::from_wire;
use crate::checkpoint::{CheckpointRef, CheckpointStore, NewestWhole, Snapshot};
use crate::collective::{CollectiveError, Group};
use crate::outbox::Reporter;

/// Why ranks could not agree on a checkpoint.
pub(super) enum ResumeError {
    Load(String),
    Collective(CollectiveError),
}

/// What the ranks go on from.
#[derive(Default)]
pub(super) struct Agreed {
    /// `None`: from the beginning.
    pub(super) found: Option<Snapshot>,
    /// Manifests of checkpoints that turned out not to be whole; told on rank 0 alone.
    pub(super) broken: Vec<String>,
}

/// Rank 0 finds a whole checkpoint; all ranks load that one, so that all begin at the same step.
pub(super) fn agree(
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
    runtime: &Handle,
    group: &mut dyn Group,
) -> Result<Agreed, ResumeError> {
    let Some(wanted) = assignment.resume_from.as_ref().map(from_wire) else {
        return Ok(Agreed::default());
    };
    let mut chosen = Vec::new();
    let mut newest = NewestWhole::default();
    if group.rank() == 0 {
        newest = runtime
            .block_on(find(wanted, assignment, store, reporter))
            .map_err(ResumeError::Load)?;
        if let Some((reference, _)) = &newest.found {
            chosen = serde_json::to_vec(reference)
                .map_err(|error| ResumeError::Load(error.to_string()))?;
        }
    }
    group
        .broadcast(0, &mut chosen)
        .map_err(ResumeError::Collective)?;
    if group.rank() == 0 || chosen.is_empty() {
        return Ok(Agreed {
            found: newest.found.map(|(_, snapshot)| snapshot),
            broken: newest.broken,
        });
    }
    let reference: CheckpointRef = serde_json::from_slice(&chosen)
        .map_err(|error| ResumeError::Load(format!("rank 0's choice of checkpoint: {error}")))?;
    let snapshot = runtime
        .block_on(store.load_ref(&reference))
        .map_err(|error| ResumeError::Load(error.to_string()))?;
    Ok(Agreed {
        found: Some(snapshot),
        broken: Vec::new(),
    })
}

async fn find(
    wanted: CheckpointRef,
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
) -> Result<NewestWhole, String> {
    let error = match store.load_ref(&wanted).await {
        Ok(snapshot) => {
            let found = Some((wanted, snapshot));
            return Ok(NewestWhole {
                found,
                ..NewestWhole::default()
            });
        }
        Err(error) if error.is_corrupt() => error,
        Err(error) => return Err(error.to_string()),
    };
    if assignment.kind() == AssignmentKind::Evaluate {
        // What is told as the winner's result must be the winner's, not an earlier checkpoint's.
        let name = &wanted.manifest;
        return Err(format!(
            "the checkpoint that was to be judged, {name}, is not whole, and no other is judged in its place: {error}"
        ));
    }
    reporter.warn(&format!(
        "{error}; going on from the newest checkpoint that is whole"
    ));
    let others: Vec<CheckpointRef> = assignment
        .checkpoints
        .iter()
        .map(from_wire)
        .filter(|other| other.manifest != wanted.manifest)
        .collect();
    let mut newest = store
        .load_newest_whole(&others)
        .await
        .map_err(|error| error.to_string())?;
    newest.broken.push(wanted.manifest);
    match &newest.found {
        Some((reference, _)) => reporter.warn(&format!("going on from {}", reference.manifest)),
        None => reporter.warn("no checkpoint of this trial is whole: starting from the beginning"),
    }
    Ok(newest)
}
