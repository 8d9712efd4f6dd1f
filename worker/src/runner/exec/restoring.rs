//! Gives a program the checkpoint that its attempt goes on from, as a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::attempt::{End, Stop};
use crate::checkpoint::{CheckpointError, CheckpointRef, CheckpointStore};
use crate::collective::Cancel;
use crate::outbox::Reporter;
use crate::runner::gather::{gather, parted};
use crate::runner::resume::{self, Agreed, ResumeError};
use crate::runner::{Host, Task};

/// How often is looked whether bytes come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// In place of the processor's kind: programs may run on different ones.
const ANY_PROCESSOR: &str = "program";

/// What a program goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restored {
    /// A folder of this process alone.
    pub(super) path: PathBuf,
    /// Complete epochs.
    pub(super) epoch: u64,
    pub(super) step: u64,
}

/// Agrees with the other ranks on the checkpoint to go on from, without having it.
///
/// # Errors
/// The attempt's end.
pub(super) async fn agree(task: &Task, reporter: &Reporter, host: &Arc<Host>) -> Result<(), End> {
    let store =
        CheckpointStore::open(&task.spec.checkpoint_url).map_err(|error| End::error(error, 0))?;
    restore_to(task, &store, reporter, host, None).await?;
    Ok(())
}

/// The checkpoint in the folder `to`, and the manifests of those that turned out not to be whole. Ranks go on
/// from the same one: none of their programs begins before all have it.
///
/// # Errors
/// The attempt's end.
pub(super) async fn restore(
    task: &Task,
    store: &CheckpointStore,
    reporter: &Reporter,
    host: &Arc<Host>,
    to: PathBuf,
) -> Result<(Option<Restored>, Vec<String>), End> {
    let agreed = restore_to(task, store, reporter, host, Some(to.clone())).await?;
    let restored = agreed.found.map(|(reference, ())| Restored {
        path: to,
        epoch: reference.epoch,
        step: reference.step,
    });
    Ok((restored, agreed.broken))
}

async fn restore_to(
    task: &Task,
    store: &CheckpointStore,
    reporter: &Reporter,
    host: &Arc<Host>,
    to: Option<PathBuf>,
) -> Result<Agreed<()>, End> {
    if task.assignment.resume_from.is_none() {
        return Ok(Agreed::default());
    }
    let moved = Arc::new(AtomicU64::new(0));
    let cancel = Cancel::new();
    let restoring = Restoring {
        assignment: task.assignment.clone(),
        store: store.clone(),
        reporter: reporter.clone(),
        host: host.clone(),
        to,
        moved: moved.clone(),
        cancel: cancel.clone(),
    };
    let mut working = tokio::task::spawn_blocking(move || restoring.run());
    let mut before = 0;
    let worked = loop {
        tokio::select! {
            worked = &mut working => break worked,
            () = reporter.stop.requested(), if !cancel.is_cancelled() => cancel.cancel(),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = moved.load(Ordering::Relaxed);
        if now != before {
            before = now;
            reporter.activity.sign();
        }
    };
    let agreed = match worked {
        Ok(Ok(agreed)) => agreed,
        Ok(Err(error)) => return Err(end(error, reporter).await),
        Err(panic) => return Err(End::error(format!("restoring failed: {panic}"), 0)),
    };
    if let Some(stop) = reporter.stop.get() {
        return Err(End::stopped(stop, 0));
    }
    Ok(agreed)
}

async fn end(error: ResumeError, reporter: &Reporter) -> End {
    match error {
        ResumeError::Load(text) => match reporter.stop.get() {
            Some(stop) => End::stopped(stop, 0),
            None => End::error(text, 0),
        },
        ResumeError::Collective(error) => parted(error, reporter).await,
    }
}

/// On a thread of its own, since ranks wait for each other there.
struct Restoring {
    assignment: trainyard_proto::v1::Assignment,
    store: CheckpointStore,
    reporter: Reporter,
    host: Arc<Host>,
    /// None: it is not needed here, and whether it is whole the others find out.
    to: Option<PathBuf>,
    moved: Arc<AtomicU64>,
    cancel: Cancel,
}

impl Restoring {
    fn run(&self) -> Result<Agreed<()>, ResumeError> {
        let key = &self.reporter.key;
        let kind = ANY_PROCESSOR.to_owned();
        let mut group = gather(&self.assignment, key, &self.host, &self.cancel, kind)
            .map_err(ResumeError::Collective)?;
        let load = async |reference: &CheckpointRef| self.load(reference).await;
        let agreed = resume::agree(
            &self.assignment,
            &self.store,
            &self.reporter,
            &Handle::current(),
            &mut *group,
            load,
        )?;
        group.barrier().map_err(ResumeError::Collective)?;
        if let (0, Some((reference, ()))) = (key.rank, &agreed.found) {
            let (epoch, step) = (reference.epoch, reference.step);
            self.reporter.info(&format!(
                "going on from the checkpoint of epoch {epoch}, step {step} ({} bytes)",
                reference.bytes
            ));
        }
        Ok(agreed)
    }

    async fn load(&self, reference: &CheckpointRef) -> Result<(), CheckpointError> {
        let Some(to) = &self.to else {
            return Ok(());
        };
        tokio::select! {
            restored = self.store.restore(reference, to, &self.moved) => restored,
            () = self.reporter.stop.reached(Stop::Checkpoint) => Err(CheckpointError::Local {
                path: to.display().to_string(),
                reason: "told to stop".to_owned(),
            }),
        }
    }
}
