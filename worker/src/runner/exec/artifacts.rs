//! The artifacts of a program: files and folders that it names are copied, and uploaded beside it under a name that
//! is unique in the trial.
//!
//! One that cannot be saved is told and ends nothing: no attempt goes on from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::moving::{Moved, STALLED_AFTER, given_up};
use super::take_over::{How, Places, blocking, measure, take_over};
use crate::attempt::Stop;
use crate::checkpoint::{
    Artifact, ArtifactSnapshot, CheckpointError, CheckpointStore, FolderSnapshot, Owner, Retry,
    check_artifact_name,
};
use crate::outbox::{Reporter, now_ms};

/// Of all files of one artifact: what is larger is a checkpoint or data, which have ways of their own.
const MAX_ARTIFACT_BYTES: u64 = 1 << 30;
/// Of all artifacts of a trial: a search of a thousand trials then keeps ten terabytes at most.
const MAX_TRIAL_BYTES: u64 = 10 << 30;
/// Names of one trial: as many small objects are read to list them.
const MAX_NAMES: usize = 1_000;
/// Artifacts that wait for the one that is uploaded; the program waits with a third.
const WAITING: usize = 1;

/// Bytes of the artifacts that a trial has or is about to have, by name.
type Sizes = Arc<Mutex<BTreeMap<String, u64>>>;

#[derive(Debug)]
pub(super) struct Artifacts {
    reporter: Reporter,
    places: Places,
    /// Where copies lie until they are uploaded.
    taken: PathBuf,
    owner: Owner,
    store: CheckpointStore,
    moved: Moved,
    /// Artifacts are taken one after the other.
    turn: tokio::sync::Mutex<Turn>,
    left_out: AtomicBool,
}

#[derive(Debug, Default)]
struct Turn {
    number: u64,
    /// From the first artifact on.
    uploads: Option<Uploads>,
    ended: bool,
}

#[derive(Debug)]
struct Uploads {
    queue: mpsc::Sender<ArtifactSnapshot>,
    task: Followed,
    sizes: Sizes,
}

impl Artifacts {
    pub(super) fn new(
        reporter: Reporter,
        places: Places,
        taken: PathBuf,
        owner: Owner,
        store: CheckpointStore,
    ) -> Self {
        Self {
            reporter,
            places,
            taken,
            owner,
            store,
            moved: Moved::default(),
            turn: tokio::sync::Mutex::default(),
            left_out: AtomicBool::new(false),
        }
    }

    /// Takes a copy of what lies at a path: when this returns the program may change it. It is uploaded beside
    /// the program; one waits while one is uploaded, and this waits with a third.
    ///
    /// # Errors
    /// Why not, for the program and its log.
    pub(super) async fn take(&self, path: &Path, name: Option<String>) -> Result<(), String> {
        let own_name = || path.file_name().map(|name| name.to_string_lossy().into());
        let name: String = name.or_else(own_name).unwrap_or_default();
        // It goes into the store and into lists, and errors quote its beginning.
        let name = self.reporter.masked(&name).into_owned();
        check_artifact_name(&name).map_err(|why| format!("artifact: {why}"))?;
        if self.reporter.key.rank != 0 {
            self.leave_out();
            return Ok(());
        }
        let refused = |why: String| format!("artifact {name}: {}: {why}", path.display());
        let mut turn = self.turn.lock().await;
        let Turn { number, .. } = &mut *turn;
        *number += 1;
        let number = *number;
        let uploads = self.uploads(&mut turn).await.map_err(&refused)?;
        let (places, given) = (self.places.clone(), path.to_owned());
        let measured = blocking(move || measure(&places, &given)).await;
        let (kind, bytes) = measured.map_err(&refused)?;
        fits(&locked(&uploads.sizes), &name, bytes).map_err(&refused)?;
        let root = self.taken.join(format!("artifact-{number}"));
        let (places, given, to) = (self.places.clone(), path.to_owned(), root.clone());
        let copied = blocking(move || take_over(&places, &given, &to, How::Copy));
        let entries = copied.await.map_err(&refused)?;
        let snapshot = ArtifactSnapshot {
            name: name.clone(),
            kind,
            number,
            made_ms: now_ms(),
            folder: Arc::new(FolderSnapshot {
                root,
                entries,
                epoch: 0,
                step: 0,
                metrics: Vec::new(),
                stored: self.moved.stored.clone(),
            }),
        };
        // It may have grown since it was measured.
        let bytes = snapshot.folder.bytes();
        let fit = fits(&locked(&uploads.sizes), &name, bytes);
        if let Err(why) = fit {
            discard(&snapshot).await;
            return Err(refused(why));
        }
        locked(&uploads.sizes).insert(name.clone(), bytes);
        self.moved.hand(bytes);
        let handed = async { uploads.queue.send(snapshot).await.is_ok() };
        let handed = async {
            tokio::select! {
                biased;
                handed = handed => handed,
                () = self.reporter.stop.reached(Stop::Now) => false,
            }
        };
        match self.moved.watch(&self.reporter.activity, handed).await {
            true => Ok(()),
            false => Err(refused(
                "the attempt was told to stop before there was room for it".to_owned(),
            )),
        }
    }

    /// Waits until all are uploaded, as long as that goes on.
    pub(super) async fn finish(&self) {
        let uploads = {
            let mut turn = self.turn.lock().await;
            turn.ended = true;
            turn.uploads.take()
        };
        let Some(Uploads {
            queue, mut task, ..
        }) = uploads
        else {
            return;
        };
        drop(queue);
        let reporter = &self.reporter;
        let tell = |stored, handed| {
            reporter.info(&format!(
                "the program has ended; its artifacts are being uploaded: {stored} of {handed} bytes"
            ));
        };
        let why = tokio::select! {
            biased;
            ended = self.moved.watch(&reporter.activity, &mut task.0) => match ended {
                Ok(()) => return,
                Err(error) => format!("they could not be followed up ({error})"),
            },
            () = given_up(&reporter.stop) => "told to stop".to_owned(),
            () = self.moved.stalled(tell) => {
                format!("nothing of them was stored for {} s", STALLED_AFTER.as_secs())
            }
        };
        reporter.warn(&format!("artifacts that are not uploaded are lost: {why}"));
    }

    /// Every rank may make some; rank 0's are kept.
    fn leave_out(&self) {
        if !self.left_out.swap(true, Ordering::Relaxed) {
            let rank = self.reporter.key.rank;
            self.reporter.warn(&format!(
                "artifacts of rank {rank} are not kept: those of rank 0 are"
            ));
        }
    }

    /// Begun with the first artifact: most attempts have none, and need not look into the store.
    async fn uploads<'a>(&self, turn: &'a mut Turn) -> Result<&'a Uploads, String> {
        if turn.ended {
            return Err("the attempt has ended".to_owned());
        }
        if turn.uploads.is_none() {
            let has = self.store.all_artifacts(self.owner.trial).await;
            let has = has.map_err(|error| error.to_string())?;
            let sizes: Sizes = Arc::new(Mutex::new(sizes_of(&has)));
            let uploading = Uploading {
                reporter: self.reporter.clone(),
                owner: self.owner.clone(),
                store: self.store.clone(),
                has,
                sizes: sizes.clone(),
            };
            let (queue, made) = mpsc::channel(WAITING);
            // What it logs is the attempt's.
            let task = Followed(tokio::spawn(uploading.run(made).in_current_span()));
            turn.uploads = Some(Uploads { queue, task, sizes });
        }
        turn.uploads
            .as_ref()
            .ok_or_else(|| "there are no uploads".to_owned())
    }
}

/// A task that ends with whoever waits for it.
#[derive(Debug)]
struct Followed(JoinHandle<()>);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether there is room for an artifact beside the others of its trial, in place of one of its name.
fn fits(sizes: &BTreeMap<String, u64>, name: &str, bytes: u64) -> Result<(), String> {
    if bytes > MAX_ARTIFACT_BYTES {
        return Err(format!(
            "it has {bytes} bytes, at most {MAX_ARTIFACT_BYTES} are accepted"
        ));
    }
    let others = sizes.iter().filter(|(known, _)| *known != name);
    let others: Vec<u64> = others.map(|(_, bytes)| *bytes).collect();
    let (count, sum) = (others.len(), others.iter().sum::<u64>());
    if count >= MAX_NAMES {
        return Err(format!(
            "the trial has {count} artifacts, at most {MAX_NAMES} are accepted"
        ));
    }
    if sum + bytes > MAX_TRIAL_BYTES {
        return Err(format!(
            "it has {bytes} bytes and the trial's others {sum}, together at most {MAX_TRIAL_BYTES} are accepted"
        ));
    }
    Ok(())
}

/// Of one name the last counts, as in the store.
fn sizes_of(artifacts: &[Artifact]) -> BTreeMap<String, u64> {
    let manifests = artifacts.iter().map(|artifact| &artifact.manifest);
    manifests
        .map(|manifest| (manifest.name.clone(), manifest.bytes()))
        .collect()
}

/// Uploads artifacts one after the other.
struct Uploading {
    reporter: Reporter,
    owner: Owner,
    store: CheckpointStore,
    /// What the trial has in the store, oldest first.
    has: Vec<Artifact>,
    sizes: Sizes,
}

impl Uploading {
    async fn run(mut self, mut made: mpsc::Receiver<ArtifactSnapshot>) {
        while let Some(snapshot) = made.recv().await {
            match self.save(&snapshot).await {
                Ok(artifact) => self.takes_its_place(artifact).await,
                Err(error) => {
                    let name = &snapshot.name;
                    self.reporter
                        .warn(&format!("artifact {name} could not be saved: {error}"));
                    let before = sizes_of(&self.has).remove(name);
                    let mut sizes = locked(&self.sizes);
                    match before {
                        Some(bytes) => drop(sizes.insert(name.clone(), bytes)),
                        None => drop(sizes.remove(name)),
                    }
                }
            }
            discard(&snapshot).await;
        }
    }

    /// Tries again while that can help, but not for ever.
    async fn save(&self, snapshot: &ArtifactSnapshot) -> Result<Artifact, CheckpointError> {
        let mut tries = Retry::default().tries();
        loop {
            let result = self.store.save_artifact(&self.owner, snapshot).await;
            let Err(error) = &result else { return result };
            let tell = |attempt| {
                tracing::warn!(%error, name = snapshot.name, attempt, "artifact not saved, trying again");
            };
            if !tries.again(error, tell).await {
                return result;
            }
        }
    }

    /// Tells of an artifact that is stored, and deletes those of its name before it.
    async fn takes_its_place(&mut self, artifact: Artifact) {
        let name = artifact.manifest.name.clone();
        let bytes = artifact.manifest.bytes();
        let at = |of: &Artifact| (of.manifest.generation, of.manifest.number);
        let has = std::mem::take(&mut self.has).into_iter();
        // One that is newer, of an attempt that has taken this one's place, stays.
        let (before, mut others): (Vec<_>, Vec<_>) =
            has.partition(|known| known.manifest.name == name && at(known) < at(&artifact));
        let place = match before.is_empty() {
            true => "",
            false => ", in place of the one before",
        };
        self.reporter
            .info(&format!("artifact {name} is kept ({bytes} bytes){place}"));
        others.push(artifact);
        for old in &before {
            let same = |other: &&Artifact| other.manifest.generation == old.manifest.generation;
            let beside: Vec<&Artifact> = others.iter().filter(same).collect();
            if let Err(error) = self.store.delete_artifact(old, &beside).await {
                // It takes room and counts for nothing.
                tracing::warn!(%error, name, "an artifact that was replaced stays in the store");
            }
        }
        self.has = others;
    }
}

async fn discard(snapshot: &ArtifactSnapshot) {
    if let Err(error) = tokio::fs::remove_dir_all(&snapshot.folder.root).await {
        // It goes with the attempt's own folder.
        tracing::debug!(%error, "an artifact's copy stays on the disk for now");
    }
}

/// Each change of what is locked here is whole, whatever panics.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_has_room_for_so_much_and_the_newest_of_a_name_counts() {
        let gib = 1 << 30;
        let sizes: BTreeMap<String, u64> = (0..10).map(|n| (n.to_string(), gib)).collect();
        assert_eq!(fits(&sizes, "3", gib), Ok(()));
        let told = fits(&sizes, "new", 1).unwrap_err();
        assert!(told.contains("others 10737418240"), "{told}");
        let told = fits(&BTreeMap::new(), "new", gib + 1).unwrap_err();
        assert!(
            told.contains("1073741825 bytes, at most 1073741824"),
            "{told}"
        );
        let many = (0..MAX_NAMES).map(|n| (n.to_string(), 0)).collect();
        assert_eq!(fits(&many, "7", 1), Ok(()));
        assert!(
            fits(&many, "new", 1)
                .unwrap_err()
                .contains("1000 artifacts")
        );
    }
}
