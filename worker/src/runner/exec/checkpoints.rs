//! The checkpoints of a program: taken over from it, uploaded beside it, and given back to the next attempt.
//!
//! Which are kept, and when the coordinator hears of them, is as for the built-in trainer (`retention`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::artifacts::Artifacts;
use super::moving::{Moved, STALLED_AFTER, given_up};
use super::restoring::{Restored, restore};
use super::take_over::{How, Places, blocking, take_over};
use crate::attempt::{End, Stop};
use crate::checkpoint::{CheckpointStore, FolderSnapshot, Owner, Uploader};
use crate::outbox::Reporter;
use crate::runner::retention::{CheckpointNews, CheckpointRetention, Failure, from_wire};
use crate::runner::scratch::AttemptFolder;
use crate::runner::{Host, Task};

/// Cheap to clone; whoever reads what the program says has one.
#[derive(Debug, Clone)]
pub(super) struct ProgramCheckpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reporter: Reporter,
    places: Places,
    taken: PathBuf,
    restored: Option<Restored>,
    /// Checkpoints are taken one after the other.
    turn: tokio::sync::Mutex<Turn>,
    /// Takes under way or waiting.
    taking: AtomicUsize,
    moved: Moved,
    artifacts: Artifacts,
    failure: Failure,
    failed: watch::Sender<bool>,
    left_out: AtomicBool,
    /// Removed at the attempt's end.
    folder: Mutex<Option<AttemptFolder>>,
}

#[derive(Debug)]
struct Turn {
    /// Of rank 0, until the attempt's end.
    uploads: Option<Uploads>,
    number: u64,
    /// The newest checkpoint's step, as it was given and as it is kept.
    step: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Uploads {
    uploader: Uploader,
    retention: JoinHandle<()>,
    /// Closes with this.
    _news: mpsc::UnboundedSender<CheckpointNews>,
}

/// One more take under way, for as long as it lives.
struct Taking<'a>(&'a AtomicUsize);

impl<'a> Taking<'a> {
    fn begin(taking: &'a AtomicUsize) -> Self {
        taking.fetch_add(1, Ordering::SeqCst);
        Self(taking)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ProgramCheckpoints {
    /// Makes the attempt's folders, and gives back the checkpoint that it goes on from. Relative paths of the
    /// program's are ones of `working`.
    ///
    /// # Errors
    /// The attempt's end, where it cannot begin.
    pub(super) async fn begin(
        task: &Task,
        reporter: &Reporter,
        host: &Arc<Host>,
        working: Option<&Path>,
    ) -> Result<Self, End> {
        let store = CheckpointStore::open(&task.spec.checkpoint_url)
            .map_err(|error| End::error(error, 0))?;
        let scratch = host.scratch.as_ref();
        let scratch = scratch.map_err(|error| End::error(error, 0))?;
        let unmade = |error: std::io::Error| {
            End::error(format!("no folder for the attempt's files: {error}"), 0)
        };
        let folder = scratch.attempt().map_err(unmade)?;
        let directory = folder.with("checkpoints").map_err(unmade)?;
        let taken = folder.with("taken").map_err(unmade)?;
        let to = folder.path().join("restored");
        let (restored, broken) = restore(task, &store, reporter, host, to).await?;
        let user = host.rules.user().cloned();
        if let Some(user) = &user {
            let restored = restored.as_ref().map(|restored| restored.path.as_path());
            let own: Vec<&Path> = [&*directory].into_iter().chain(restored).collect();
            folder.give(&own, user).map_err(unmade)?;
        }
        let places = Places {
            working: working.map(Path::to_owned).unwrap_or_default(),
            directory,
            attempt: folder.path().to_owned(),
            user,
        };
        let (beside, owner) = (store.clone(), owner(reporter));
        let artifacts = Artifacts::new(
            reporter.clone(),
            places.clone(),
            taken.clone(),
            owner,
            beside,
        );
        let failure: Failure = Arc::new(OnceLock::new());
        let failed = watch::Sender::new(false);
        let uploads = (reporter.key.rank == 0).then(|| {
            let telling = (failure.clone(), failed.clone());
            Uploads::start(task, store, reporter, host, telling, broken)
        });
        Ok(Self(Arc::new(Inner {
            reporter: reporter.clone(),
            places,
            taken,
            restored,
            turn: tokio::sync::Mutex::new(Turn {
                uploads,
                number: 0,
                step: None,
            }),
            taking: AtomicUsize::new(0),
            moved: Moved::default(),
            artifacts,
            failure,
            failed,
            left_out: AtomicBool::new(false),
            folder: Mutex::new(Some(folder)),
        })))
    }

    /// What the program goes on from.
    pub(super) fn restored(&self) -> Option<&Restored> {
        self.0.restored.as_ref()
    }

    /// Where the program makes its checkpoints.
    pub(super) fn directory(&self) -> &Path {
        &self.0.places.directory
    }

    /// What the program is told of its checkpoints.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("TRAINYARD_CHECKPOINT_DIR", self.directory().into())];
        if let Some(restored) = self.restored() {
            variables.extend([
                ("TRAINYARD_RESTORE_DIR", restored.path.clone().into()),
                ("TRAINYARD_RESTORE_EPOCH", restored.epoch.to_string().into()),
                ("TRAINYARD_RESTORE_STEP", restored.step.to_string().into()),
            ]);
        }
        variables
    }

    /// Whether a checkpoint is being taken over, or waits for it.
    pub(super) fn is_taking(&self) -> bool {
        self.0.taking.load(Ordering::SeqCst) > 0
    }

    /// Resolves once a checkpoint could not be saved: the attempt cannot keep its promises.
    pub(super) async fn failed(&self) {
        // The sender is in `self`: the channel cannot close meanwhile.
        let _ = self.0.failed.subscribe().wait_for(|failed| *failed).await;
    }

    /// Takes a checkpoint over: when this returns it is the worker's, and is uploaded beside the program. One
    /// waits while one is uploaded; this waits with a third.
    ///
    /// # Errors
    /// Why not, for the program and its log.
    pub(super) async fn take(
        &self,
        path: &Path,
        epoch: u64,
        step: u64,
        metrics: Vec<(String, f64)>,
    ) -> Result<(), String> {
        let inner = &*self.0;
        let _taking = Taking::begin(&inner.taking);
        let mut turn = inner.turn.lock().await;
        let refused = |why: &str| Err(format!("checkpoint {}: {why}", path.display()));
        if inner.reporter.key.rank != 0 {
            return inner.leave_out(path).await;
        }
        if let Some(why) = inner.failure.get() {
            return refused(why);
        }
        let said = step;
        let step = match turn.step {
            Some((last, _)) if said < last => {
                return refused(&format!(
                    "its step is {said}, expected {last} or one after it: of step {last} there is a checkpoint already"
                ));
            }
            // Of one step the newest counts: it is kept as of the next.
            Some((_, kept)) => said.max(kept.saturating_add(1)),
            None => said,
        };
        if turn.uploads.is_none() {
            return refused("the attempt has ended");
        }
        turn.number += 1;
        let to = inner.taken.join(turn.number.to_string());
        let root = to.clone();
        let (places, given) = (inner.places.clone(), path.to_owned());
        let entries = inner
            .moved
            .watch(
                &inner.reporter.activity,
                blocking(move || take_over(&places, &given, &to, How::Move)),
            )
            .await;
        let entries = match entries {
            Ok(entries) => entries,
            Err(why) => return refused(&why),
        };
        turn.step = Some((said, step));
        let snapshot = FolderSnapshot {
            root,
            entries,
            epoch,
            step,
            metrics,
            stored: inner.moved.stored.clone(),
        };
        let bytes = snapshot.bytes();
        inner.moved.hand(bytes);
        let Some(uploads) = &turn.uploads else {
            return refused("the attempt has ended");
        };
        let now = inner.reporter.stop.reached(Stop::Now);
        let submitted = uploads.uploader.submit_folder_unless(snapshot, now);
        let activity = &inner.reporter.activity;
        if inner.moved.watch(activity, submitted).await {
            Ok(())
        } else {
            refused("the attempt was told to stop before there was room for it")
        }
    }

    /// Takes a copy of an artifact, which is uploaded beside the program.
    ///
    /// # Errors
    /// Why not, for the program and its log.
    pub(super) async fn take_artifact(
        &self,
        path: &Path,
        name: Option<String>,
    ) -> Result<(), String> {
        let _taking = Taking::begin(&self.0.taking);
        self.0.artifacts.take(path, name).await
    }

    /// Waits for uploads and for what is to be told of them, then removes the attempt's files.
    ///
    /// # Errors
    /// Why a checkpoint could not be saved.
    pub(super) async fn finish(self) -> Result<(), String> {
        let inner = &*self.0;
        inner.artifacts.finish().await;
        let uploads = inner.turn.lock().await.uploads.take();
        let followed = match uploads {
            Some(uploads) => inner.finish_uploads(uploads).await,
            None => Ok(()),
        };
        let folder = inner
            .folder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        blocking(move || drop(folder)).await;
        followed?;
        match inner.failure.get() {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }
}

impl Uploads {
    fn start(
        task: &Task,
        store: CheckpointStore,
        reporter: &Reporter,
        host: &Arc<Host>,
        (failure, failed): (Failure, watch::Sender<bool>),
        broken: Vec<String>,
    ) -> Self {
        let known = task.assignment.checkpoints.iter().map(from_wire);
        let retention = CheckpointRetention::new(
            &task.spec.job,
            store.clone(),
            known.collect(),
            reporter.clone(),
            host.clone(),
            failure.clone(),
        );
        let (news, told) = mpsc::unbounded_channel();
        if !broken.is_empty() {
            // Nobody hears it only where the retention has panicked: its attempt ends in an error.
            let _ = news.send(CheckpointNews::Broken(broken));
        }
        let retention = tokio::spawn(retention.run(told));
        let owner = owner(reporter);
        let saved = news.clone();
        let done = move |result: Result<_, crate::checkpoint::CheckpointError>| {
            if let Err(error) = &result {
                let _ = failure.set(format!("a checkpoint could not be saved: {error}"));
                failed.send_replace(true);
            }
            drop(saved.send(CheckpointNews::Saved(result)));
        };
        Self {
            uploader: Uploader::start(&Handle::current(), store, owner, done),
            retention,
            _news: news,
        }
    }
}

/// Whose everything is that an attempt saves.
fn owner(reporter: &Reporter) -> Owner {
    let key = &reporter.key;
    Owner {
        job: key.job.clone(),
        trial: key.trial,
        attempt: key.attempt,
        generation: key.generation,
    }
}

impl Inner {
    /// Every rank may say that it has made one; rank 0's are kept.
    async fn leave_out(&self, path: &Path) -> Result<(), String> {
        if !self.left_out.swap(true, Ordering::Relaxed) {
            let rank = self.reporter.key.rank;
            self.reporter.warn(&format!(
                "checkpoints of rank {rank} are not kept: those of rank 0 are"
            ));
        }
        let (places, given) = (self.places.clone(), path.to_owned());
        let to = self.taken.join("left-out");
        blocking(move || {
            let given = places.working.join(given);
            let real = places.sees(|| given.canonicalize());
            let own = real.is_ok_and(|real| real.starts_with(&places.directory));
            if own && take_over(&places, &given, &to, How::Move).is_ok() {
                let _ = std::fs::remove_dir_all(&to);
            }
        })
        .await;
        Ok(())
    }

    async fn finish_uploads(&self, uploads: Uploads) -> Result<(), String> {
        let Uploads {
            uploader,
            retention,
            _news: news,
        } = uploads;
        let reporter = &self.reporter;
        let tell = |stored, handed| {
            reporter.info(&format!(
                "the program has ended; its checkpoints are being uploaded: {stored} of {handed} bytes"
            ));
        };
        let finished = self.moved.watch(&reporter.activity, uploader.finished());
        tokio::select! {
            biased;
            () = finished => {}
            () = given_up(&reporter.stop) => {
                reporter.warn("uploads of checkpoints are given up: told to stop");
            }
            () = self.moved.stalled(tell) => {
                let seconds = STALLED_AFTER.as_secs();
                let _ = self.failure.set(format!(
                    "a checkpoint could not be saved: nothing of it was stored for {seconds} s"
                ));
            }
        }
        drop(news);
        let followed = retention.await;
        followed.map_err(|_| "checkpoints could not be followed up".to_owned())
    }
}
