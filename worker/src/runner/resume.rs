//! Which checkpoint an attempt goes on from: the one it was given, or the newest that is whole.
//! An evaluation is of the one that it was given, or fails.

use tokio::runtime::Handle;
use trainyard_proto::v1::{Assignment, AssignmentKind};

use super::retention::from_wire;
use crate::checkpoint::{CheckpointError, CheckpointRef, CheckpointStore, NewestWhole};
use crate::collective::{CollectiveError, Group};
use crate::outbox::Reporter;

/// Why ranks could not agree on a checkpoint.
pub(super) enum ResumeError {
    Load(String),
    Collective(CollectiveError),
}

/// What the ranks go on from, as it was loaded.
pub(super) struct Agreed<T> {
    /// `None`: from the beginning.
    pub(super) found: Option<(CheckpointRef, T)>,
    /// Manifests of checkpoints that turned out not to be whole; told on rank 0 alone.
    pub(super) broken: Vec<String>,
}

impl<T> Default for Agreed<T> {
    fn default() -> Self {
        Self {
            found: None,
            broken: Vec::new(),
        }
    }
}

/// Rank 0 finds a whole checkpoint; all ranks load that one, so that all begin at the same step.
pub(super) fn agree<T>(
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
    runtime: &Handle,
    group: &mut dyn Group,
    load: impl AsyncFn(&CheckpointRef) -> Result<T, CheckpointError>,
) -> Result<Agreed<T>, ResumeError> {
    let Some(wanted) = assignment.resume_from.as_ref().map(from_wire) else {
        return Ok(Agreed::default());
    };
    let mut chosen = Vec::new();
    let mut agreed = Agreed::default();
    if group.rank() == 0 {
        agreed = runtime
            .block_on(find(wanted, assignment, store, reporter, &load))
            .map_err(ResumeError::Load)?;
        if let Some((reference, _)) = &agreed.found {
            chosen = serde_json::to_vec(reference)
                .map_err(|error| ResumeError::Load(error.to_string()))?;
        }
    }
    group
        .broadcast(0, &mut chosen)
        .map_err(ResumeError::Collective)?;
    if group.rank() == 0 || chosen.is_empty() {
        return Ok(agreed);
    }
    let reference: CheckpointRef = serde_json::from_slice(&chosen)
        .map_err(|error| ResumeError::Load(format!("rank 0's choice of checkpoint: {error}")))?;
    let loaded = runtime
        .block_on(load(&reference))
        .map_err(|error| ResumeError::Load(error.to_string()))?;
    Ok(Agreed {
        found: Some((reference, loaded)),
        broken: Vec::new(),
    })
}

async fn find<T>(
    wanted: CheckpointRef,
    assignment: &Assignment,
    store: &CheckpointStore,
    reporter: &Reporter,
    load: impl AsyncFn(&CheckpointRef) -> Result<T, CheckpointError>,
) -> Result<Agreed<T>, String> {
    let error = match load(&wanted).await {
        Ok(loaded) => {
            let found = Some((wanted, loaded));
            return Ok(Agreed {
                found,
                ..Agreed::default()
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
    let newest = store.newest_whole(&others, load).await;
    let NewestWhole { found, mut broken } = newest.map_err(|error| error.to_string())?;
    broken.push(wanted.manifest);
    match &found {
        Some((reference, _)) => reporter.warn(&format!("going on from {}", reference.manifest)),
        None => reporter.warn("no checkpoint of this trial is whole: starting from the beginning"),
    }
    Ok(Agreed { found, broken })
}
